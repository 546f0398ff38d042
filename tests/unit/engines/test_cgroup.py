"""The cgroups of attempts, in a directory that stands in for the hierarchy."""

from pathlib import Path

import pytest

from leptond.config import EngineSettings
from leptond.engines import cgroup
from leptond.engines.cgroup import Cgroups


def test_without_a_root_nothing_happens():
    none = Cgroups(None)
    assert none.create("a1").path == ""
    none.kill("a1")
    none.remove("a1")
    assert (none.attempts(), none.processes("a1")) == (set(), set())


def test_an_attempt_gets_a_cgroup_of_its_own(tmp_path):
    groups = Cgroups(tmp_path)
    path = groups.create("a1").path
    assert path == str(tmp_path / "leptond-a1")
    with pytest.raises(FileExistsError):
        groups.create("a1")
    (tmp_path / "another").mkdir()
    assert groups.attempts() == {"a1"}
    groups.remove("a1")
    assert groups.attempts() == set()
    groups.remove("a1")


def test_processes_are_found_at_any_depth(tmp_path):
    groups = Cgroups(tmp_path)
    path = groups.create("a1").path
    (tmp_path / "leptond-a1" / "inner").mkdir()
    for place, text in ((Path(path), "11\n12\n"), (Path(path, "inner"), "13\n")):
        (place / "cgroup.procs").write_text(text)
    assert groups.processes("a1") == {11, 12, 13}
    assert groups.processes("a2") == set()


def test_a_kill_is_one_write(tmp_path):
    groups = Cgroups(tmp_path)
    groups.create("a1")
    groups.kill("a1")
    assert (tmp_path / "leptond-a1" / "cgroup.kill").read_text() == "1"
    groups.kill("gone")


def test_the_settings_choose_the_root(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "own", lambda: tmp_path / "own")
    monkeypatch.setattr(cgroup, "delegated", lambda _: None)
    assert cgroup.root_for(EngineSettings(containment="descendants", cgroup_root="/x")) is None
    assert str(cgroup.root_for(EngineSettings(cgroup_root="/x"))) == "/x"
    assert cgroup.root_for(EngineSettings(containment="cgroup")) == tmp_path / "own"
    assert cgroup.root_for(EngineSettings(containment="auto")) is None


def test_attempts_get_theirs_where_their_processes_begin(tmp_path):
    settings = EngineSettings(containment="cgroup")
    assert cgroup.root_for(settings, tmp_path / "jobs") == tmp_path / "jobs"
    assert cgroup.root_for(settings, tmp_path / "jobs" / cgroup.LEAF) == tmp_path / "jobs"

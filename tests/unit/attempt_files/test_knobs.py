"""The file that a running job reads the values of its knobs from."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

from leptond.attempt_files import knobs, layout

JOB = SimpleNamespace(
    tuned={"lr": SimpleNamespace(value=0.1, version=3), "beta": SimpleNamespace(value=0.9, version=1)},
    tuned_version=3,
)


def test_the_file_holds_values_and_versions_and_replaces_the_last(tmp_path):
    (tmp_path / layout.KNOBS).write_text("old")
    assert knobs.leave(tmp_path, JOB)
    assert json.loads((tmp_path / layout.KNOBS).read_text()) == {
        "version": 3,
        "values": {"lr": 0.1, "beta": 0.9},
        "versions": {"lr": 3, "beta": 1},
    }
    assert [file.name for file in tmp_path.iterdir()] == [layout.KNOBS]


def test_a_directory_that_is_gone_is_no_error(tmp_path):
    assert not knobs.leave(tmp_path / "absent", JOB)


def test_no_link_is_followed(tmp_path):
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / f".{layout.KNOBS}.tmp").symlink_to(tmp_path / "secret")
    assert knobs.leave(tmp_path, JOB)
    assert not (tmp_path / layout.KNOBS).is_symlink()
    assert (tmp_path / "secret").read_text() == "hidden"


def test_a_directory_that_a_job_has_exchanged_for_a_link_is_not_written_to(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "1").symlink_to(other)
    with pytest.raises(OSError, match=f"{os.strerror(errno.ENOTDIR)}|{os.strerror(errno.ELOOP)}"):
        knobs.leave(tmp_path / "7" / "1", JOB)
    assert list(other.iterdir()) == []

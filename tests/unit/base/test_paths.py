"""Places of files: XDG directories, systemd's, and the socket for progress beside the API's."""

from pathlib import Path

import pytest

from leptond.base.errors import StartRefused
from leptond.base.paths import data_dir, make_directory, system_places, user_places


def test_xdg_directories_hold_and_relative_ones_do_not(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = user_places()
    assert found.mode == "user"
    assert found.state_dir == tmp_path / "state" / "leptond"
    assert found.config_file == tmp_path / "home" / ".config" / "leptond" / "config.toml"
    assert found.socket == tmp_path / "leptond" / "leptond.sock"


def test_without_a_runtime_directory_the_socket_is_in_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert user_places().socket == tmp_path / "leptond" / "leptond.sock"


def test_the_directories_of_systemd_hold(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "s"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "r"))
    found = system_places()
    assert (found.mode, found.state_dir, found.socket) == (
        "system",
        tmp_path / "s",
        tmp_path / "r" / "leptond.sock",
    )
    assert found.report_sockets[-1] == tmp_path / "r" / "leptond.jobs"


def test_directories_are_made_with_their_parents_and_only_the_last_is_private(tmp_path):
    make_directory(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").stat().st_mode & 0o500 == 0o500
    make_directory(tmp_path / "a" / "b", 0o755)  # it exists: nothing changes
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_data_of_the_package_is_found_or_the_installation_is_incomplete():
    assert list(Path(data_dir("migrations")).glob("*.sql"))
    with pytest.raises(StartRefused, match="incomplete"):
        data_dir("no-such-data")

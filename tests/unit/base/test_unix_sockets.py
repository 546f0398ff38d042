"""Where sockets can be made, and what is said where they cannot."""

import dataclasses
import os
import socket

import pytest

from leptond.base.errors import StartRefused
from leptond.base.paths import Places, usable_sockets, user_places
from leptond.base.socket_places import to_look_at
from leptond.base.unix_sockets import BoundSocket


@pytest.fixture
def places(tmp_path):
    """The runtime directory is there, and the state directory can be made."""
    (tmp_path / "rt").mkdir()
    return Places(
        mode="user",
        config_file=tmp_path / "config.toml",
        state_dir=tmp_path / "state" / "leptond",
        socket=tmp_path / "rt" / "leptond" / "leptond.sock",
        more_sockets=(tmp_path / "state" / "leptond" / "leptond.sock",),
        token_file=tmp_path / "token",
    )


def test_a_daemon_listens_where_its_clients_look_and_in_their_order(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sockets = [str(path) for path in user_places().sockets]
    assert len(sockets) == 2
    assert [path for path in to_look_at(os.environ) if path in sockets] == sockets


def test_jobs_are_given_the_socket_that_stays(places, tmp_path):
    assert places.job_socket == tmp_path / "state" / "leptond" / "leptond.sock"
    assert places.report_sockets[-1] == tmp_path / "state" / "leptond" / "leptond.jobs"
    assert len(places.report_sockets) == 2


def test_all_that_can_be_made_are_used(places):
    assert usable_sockets(places) == places


@pytest.mark.parametrize("how", ["gone", "a file", "too long"])
def test_a_place_that_cannot_be_used_leads_to_the_next(places, tmp_path, how):
    match how:
        case "gone":
            (tmp_path / "rt").rmdir()
        case "a file":
            (tmp_path / "rt" / "leptond").touch()
        case "too long":
            long = tmp_path / ("x" * 100) / "leptond.sock"
            places = dataclasses.replace(places, socket=long)
    found = usable_sockets(places)
    assert found.sockets == places.more_sockets
    assert found.socket == found.job_socket == places.more_sockets[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else_is_no_place(places, tmp_path):
    (tmp_path / "rt").chmod(0o500)
    assert usable_sockets(places).sockets == places.more_sockets


def test_where_there_is_no_place_all_are_named(places, tmp_path):
    (tmp_path / "rt" / "leptond").touch()
    (tmp_path / "state").touch()
    with pytest.raises(StartRefused) as refused:
        usable_sockets(places)
    assert refused.value.exit_code == 78
    for path in places.sockets:
        assert f"cannot listen at {path}" in str(refused.value)


def test_a_socket_that_nobody_answers_at_is_replaced_and_one_that_answers_is_not(tmp_path):
    path = tmp_path / "x.sock"
    first = BoundSocket(path, socket.SOCK_STREAM, 0o600, parents=1)
    assert first.is_there()
    assert path.stat().st_mode & 0o777 == 0o600
    second = BoundSocket(path, socket.SOCK_STREAM, 0o660, parents=1)  # the first one does not listen
    assert (first.is_there(), second.is_there()) == (False, True)
    assert path.stat().st_mode & 0o777 == 0o660
    second.socket.listen()
    with pytest.raises(StartRefused, match="another program answers") as refused:
        BoundSocket(path, socket.SOCK_STREAM, 0o600, parents=1)
    assert refused.value.exit_code == 75
    first.socket.close()
    second.socket.close()


def test_a_file_in_its_place_stays(tmp_path):
    (tmp_path / "x.sock").write_text("precious")
    with pytest.raises(StartRefused, match="not a socket") as refused:
        BoundSocket(tmp_path / "x.sock", socket.SOCK_DGRAM, 0o600, parents=1)
    assert refused.value.exit_code == 78
    assert (tmp_path / "x.sock").read_text() == "precious"

"""What the service manager hands over: sockets, credentials, and the way to the journal."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
import structlog

from leptond.api.unix_listener import UnixListener
from leptond.base.errors import EXIT_CONFIG, StartRefused
from leptond.base.tokens import load_tokens
from leptond.daemon import journal
from leptond.daemon.activation import by_path, credential, take_sockets


def listening(path):
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    one.listen()
    return one


ASKED = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from leptond.base.errors import StartRefused
from leptond.daemon.activation import take_sockets
try:
    taken = take_sockets(os.environ)
    print(*[one.getsockname() for one in taken], os.get_inheritable(3))
    print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
except StartRefused as refusal:
    print(refusal, refusal.exit_code)
"""


def handed_over(*fds):
    """What a process says that is given these descriptors from the third on."""
    moves = " ".join(f"{number}<&{fd}" for number, fd in enumerate(fds, 3))
    return subprocess.run(
        ["/bin/bash", "-c", f'exec "$@" {moves}', "sh", sys.executable, "-c", ASKED],
        env={**os.environ, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": "api"},
        pass_fds=fds,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_a_socket_is_taken_and_no_child_inherits_it_or_its_variables(tmp_path):
    with listening(tmp_path / "s") as one:
        assert handed_over(one.fileno()) == f"{tmp_path}/s False\n[]\n"


def test_what_is_no_listening_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        assert "ListenStream=" in handed_over(one.fileno())
    with (tmp_path / "f").open("w") as file:
        assert f"is no socket {EXIT_CONFIG}" in handed_over(file.fileno())


def test_what_was_meant_for_another_process_stays_its():
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert take_sockets(environ) == []
    assert environ == {}
    assert take_sockets({}) == []


def test_a_socket_that_is_not_served_is_refused_by_its_name(tmp_path):
    with listening(tmp_path / "a") as one, socket.create_server(("127.0.0.1", 0)) as tcp:
        assert by_path([one], [tmp_path / "a"]) == {tmp_path / "a": one}
        for wrong in (one, tcp):
            with pytest.raises(StartRefused, match=r"ListenStream= is to be .*/b") as refused:
                by_path([wrong], [tmp_path / "b"])
            assert refused.value.exit_code == EXIT_CONFIG


async def test_an_inherited_socket_keeps_its_mode_and_outlives_the_listener(tmp_path):
    path = tmp_path / "s"
    held = listening(path)
    path.chmod(0o640)
    inode = path.stat().st_ino
    listener = UnixListener(path, asyncio.Protocol, group=True, inherited=held.dup())
    await listener.start(parents=0)
    assert listener.is_there()
    listener.close()
    await asyncio.sleep(0)
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o640)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))  # waits in the queue of the one who holds it
    held.close()


async def test_an_inherited_socket_that_is_gone_is_made_anew(tmp_path):
    path = tmp_path / "s"
    with listening(path) as held:
        listener = UnixListener(path, asyncio.Protocol, group=True, inherited=held.dup())
        await listener.start(parents=0)
        path.unlink()
        assert not listener.is_there()
        await listener.make_again()
        assert listener.is_there()
        assert path.stat().st_mode & 0o777 == 0o660
        listener.close()


def test_a_credential_is_the_token_and_the_other_one_stays_a_file(tmp_path):
    (tmp_path / "leptond.token").write_text("lept_" + "c" * 40)
    (tmp_path / "leptond.token").chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    state = tmp_path / "state" / "token"
    tokens = load_tokens(state, lambda suffix: credential(environ, "leptond.token" + suffix))
    assert tokens.full == "lept_" + "c" * 40
    assert not state.exists()
    assert state.with_name("token.read-only").read_text().strip() == tokens.read_only
    assert credential({}, "leptond.token") is None


def test_the_journal_gets_fields_and_what_it_does_not_take_is_written(tmp_path):
    address = str(tmp_path / "journal")
    renderer = journal.JournalRenderer(structlog.processors.JSONRenderer(), address)
    event = {"event": "attempt.lost", "level": "error", "job": 7, "note": "two\nlines", "ids": [1]}
    assert "attempt.lost" in renderer(None, "error", dict(event))  # nobody is there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        with pytest.raises(structlog.DropEvent):
            renderer(None, "error", dict(event))
        data = manager.recv(65536)
    renderer.close()
    lines = data.split(b"\n")
    assert {b"PRIORITY=3", b"LEPTOND_EVENT=attempt.lost", b"LEPTOND_JOB=7"} <= set(lines)
    assert b"LEPTOND_NOTE\n" + (9).to_bytes(8, "little") + b"two\nlines\n" in data
    assert b"LEPTOND_IDS" not in data


def test_only_the_stream_that_is_the_journal_is_taken_for_it(tmp_path):
    with (tmp_path / "f").open("w") as file:
        stat = os.fstat(file.fileno())
        assert journal.is_journal({"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}, file.fileno())
        assert not journal.is_journal({"JOURNAL_STREAM": f"{stat.st_dev}:1"}, file.fileno())
        assert not journal.is_journal({}, file.fileno())

"""Processes of jobs that a spawn server starts: with real processes and descriptors."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.base.errors import EXIT_LATER, StartRefused
from leptond.engines import spawn_server, spawning
from leptond.engines.shim_pool import BARE
from leptond.engines.spawning import DIRECT, UnitSpawner
from tests.support.daemon import until

SAYS = "import os; os.write(7, os.environb[b'A'] + f' {os.getsid(0) == os.getpid()} {os.getppid()}'.encode())"


class Server:
    """A spawn server, started and started again."""

    def __init__(self, place: Path) -> None:
        self.path = place / "spawner.sock"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, *BARE, spawn_server.__file__, str(self.path)])
        until(self.answers, "the spawn server")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            return one.connect_ex(str(self.path)) == 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    yield one
    one.end()


@pytest.fixture(params=["direct", "unit"])
def spawner(request):
    if request.param == "direct":
        yield DIRECT
        return
    one = UnitSpawner(request.getfixturevalue("server").path)
    yield one
    one.close()


def ran(spawner, *argv, env=None, session=False):
    """What a program writes to its descriptor 7, and its pid."""
    out, into = os.pipe()
    try:
        pid, pidfd = spawner.spawn(argv, env or {"A": "one"}, {7: into}, session=session)
    finally:
        os.close(into)
    with os.fdopen(out, errors="surrogateescape") as file:
        said = file.read()
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    return said, pid


def is_inheritable(fd):
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_a_program_gets_its_environment_its_descriptors_and_its_session(spawner):
    said, _ = ran(spawner, sys.executable, "-S", "-c", SAYS, session=True)
    assert said.split()[:2] == ["one", "True"]
    said, _ = ran(spawner, sys.executable, "-S", "-c", SAYS, env={"A": "b" * 100_000 + "\udcff"})
    assert said.split()[1] == "False"
    fds = "import os; os.write(7, ' '.join(sorted(os.listdir('/proc/self/fd'))).encode())"
    said, _ = ran(spawner, sys.executable, "-S", "-c", fds)
    others = {str(fd) for fd in range(3, 1024) if is_inheritable(fd)}  # of who runs the tests
    assert set(said.split()) <= {"0", "1", "2", "3", "7"} | others  # 3: the directory that is listed


def test_what_cannot_be_started_is_an_error_and_the_next_one_starts(spawner):
    with pytest.raises(FileNotFoundError):
        ran(spawner, "/nowhere/program")
    assert ran(spawner, "/bin/sh", "-c", "echo up >&7")[0] == "up\n"


def test_it_is_the_servers_child_and_is_collected(server):
    spawner = UnitSpawner(server.path)
    said, pid = ran(spawner, sys.executable, "-S", "-c", SAYS)
    assert int(said.split()[2]) == server.process.pid
    until(lambda: not Path(f"/proc/{pid}").exists(), "its collection")
    spawner.close()


def test_a_server_that_was_started_again_is_asked_anew(server):
    spawner = UnitSpawner(server.path)
    server.end()
    with pytest.raises(BlockingIOError, match="does not answer: Connection refused"):
        ran(spawner, "/bin/true")
    server.start()
    assert ran(spawner, "/bin/sh", "-c", "echo up >&7")[0] == "up\n"
    spawner.close()


def test_a_server_that_is_silent_is_not_waited_for_again_and_again(server, monkeypatch):
    spawner = UnitSpawner(server.path)
    monkeypatch.setattr(spawning, "ANSWER_S", 0.1)
    spawner.close()
    os.kill(server.process.pid, signal.SIGSTOP)
    with pytest.raises(BlockingIOError, match="no answer within"):
        ran(spawner, "/bin/true")
    os.kill(server.process.pid, signal.SIGCONT)
    with pytest.raises(BlockingIOError, match="silent a moment ago"):
        ran(spawner, "/bin/true")
    monkeypatch.setattr(spawner, "_silent_until", 0.0)
    assert ran(spawner, "/bin/sh", "-c", "echo up >&7")[0] == "up\n"
    spawner.close()


def test_nonsense_is_answered_with_an_error_and_does_no_harm(server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.settimeout(60)
        one.connect(str(server.path))
        for body in (None, b"", b"no json", b"[]", b'{"argv": 1, "fds": [], "env": {}, "session": 0}'):
            fds = []
            if body is not None:
                fds = [os.memfd_create("body")]
                os.write(fds[0], body)
            socket.send_fds(one, [b"spawn"], fds)
            assert b"errno" in one.recv(4096)
            for fd in fds:
                os.close(fd)
    spawner = UnitSpawner(server.path)
    assert ran(spawner, "/bin/sh", "-c", "echo up >&7")[0] == "up\n"
    spawner.close()


def test_only_its_own_account_reaches_it(server):
    assert server.path.stat().st_mode & 0o777 == 0o600


def test_a_daemon_without_its_server_says_which_unit_to_start(tmp_path):
    with pytest.raises(StartRefused, match="systemctl start leptond-jobs") as refused:
        UnitSpawner(tmp_path / "none.sock")
    assert refused.value.exit_code == EXIT_LATER

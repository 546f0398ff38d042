"""Shims from the zygote, and from an interpreter of their own where it does not answer."""

import asyncio
import json
import os
import signal
import socket
import weakref
from pathlib import Path

import pytest

from leptond.clock import kernel_boot_id
from leptond.core.model import Identity
from leptond.engines import processes, spawning
from leptond.engines.processes import tag_of
from leptond.engines.spawning import Spawner
from tests.daemon import Daemon, gone, parent_of, until
from tests.engines.test_shim import SHIM, Zygote

PATH = "/usr/bin:/bin"


class Asked:
    """What a shim is started with, and our end of its gate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.gate, self.theirs = socket.socketpair()
        self.gate.settimeout(30)
        self.launch = os.memfd_create("launch")
        weakref.finalize(self, os.close, self.launch)
        told = {
            "attempt_id": "a1",
            "boot_id": kernel_boot_id(),
            "deck": str(directory),
            "directory": str(directory / "1" / "1"),
            "cgroup": "",
            "claim": {},
            "argv": ["true"],
            "env": {},
            "cwd": "/",
            "umask": 0o22,
            "tag": tag_of("a1" * 16),
            "log_max_bytes": 1 << 20,
        }
        os.write(self.launch, json.dumps(told).encode())

    async def spawn(self, spawner: Spawner) -> spawning.Spawned:
        return await spawner.shim("a1", self.theirs.fileno(), self.launch, self.directory / "shim.log")

    async def ended(self, shim: spawning.Spawned) -> dict:
        """Shuts the gate and waits for the record."""
        self.gate.close()
        self.theirs.close()
        await processes.ended(shim.pidfd)
        os.close(shim.pidfd)
        return json.loads((self.directory / "exit.json").read_text())

    def ready(self) -> bool:
        self.theirs.close()
        return self.gate.recv(100).startswith(b"READY")


@pytest.fixture
async def spawner():
    one = Spawner(PATH, prefork=True)
    one.open()
    await there(one)
    yield one
    one.close()


async def there(one: Spawner) -> spawning.Zygote:
    """The zygote, once it is ready."""
    async with asyncio.timeout(30):
        while one.zygote is None:
            await asyncio.sleep(0.01)
    return one.zygote


async def test_a_forked_shim_looks_like_one_that_was_started(spawner, tmp_path):
    zygote = await there(spawner)
    asked = Asked(tmp_path)
    shim = await asked.spawn(spawner)
    assert parent_of(shim.pid) == zygote.pid
    assert asked.ready()
    pinned = processes.pin(Identity(boot_id=kernel_boot_id(), pid=shim.pid, start_ticks=shim.start_ticks))
    assert pinned is not None
    os.close(pinned)
    proc = Path(f"/proc/{shim.pid}")
    assert (proc / "environ").read_bytes().split(b"\0") == [b"PATH=" + PATH.encode(), b"LEPTOND_SHIM=a1", b""]
    assert (proc / "cmdline").read_bytes().split(b"\0")[-2:] == [str(SHIM).encode(), b""]
    assert processes.attempt_of(shim.pid) == "a1"
    fields = (proc / "stat").read_text().rpartition(") ")[2].split()
    assert int(fields[3]) == shim.pid, "a session of its own"
    links = {fd.name: str(fd.readlink()) for fd in (proc / "fd").iterdir()}
    assert links.pop("2") == str(tmp_path / "shim.log")
    assert [links.pop(fd) for fd in "01"] == ["/dev/null"] * 2
    inherited = {link for fd, link in links.items() if int(fd) > 3} & set(descriptors(os.getpid()))
    assert not inherited
    assert (await asked.ended(shim))["never_started"] is True


def descriptors(pid: int) -> list[str]:
    """What a process has open above its standard streams."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            link = str(fd.readlink())
        except OSError:
            continue
        if int(fd.name) > 2:
            found.append(link)
    return found


async def test_the_zygote_holds_nothing_of_the_daemon_and_no_gate(spawner, tmp_path):
    zygote = await there(spawner)
    before = descriptors(zygote.pid)
    asked = Asked(tmp_path)
    shim = await asked.spawn(spawner)
    assert asked.ready()
    assert descriptors(zygote.pid) == before
    assert not any(link.startswith(("/memfd", str(tmp_path))) for link in before)
    os.kill(shim.pid, signal.SIGKILL)
    assert asked.gate.recv(1) == b"", "the end of the shim is the end of its gate"
    asked.gate.close()
    await processes.ended(shim.pidfd)
    os.close(shim.pidfd)
    until(lambda: processes.start_ticks(shim.pid) is None, "the zygote collects it")


async def test_a_zygote_that_does_not_answer_is_given_up_for_a_cold_start(spawner, tmp_path, monkeypatch):
    zygote = await there(spawner)
    monkeypatch.setattr(spawning, "ANSWER_S", 0.2)
    monkeypatch.setattr(spawning, "RESTART_S", 0.05)
    os.kill(zygote.pid, signal.SIGSTOP)
    asked = Asked(tmp_path)
    shim = await asked.spawn(spawner)
    assert parent_of(shim.pid) == os.getpid()
    assert asked.ready()
    assert gone(zygote.pid)
    again = await there(spawner)
    assert again.pid != zygote.pid
    assert (await asked.ended(shim))["never_started"] is True
    second = Asked(tmp_path / "second")
    shim = await second.spawn(spawner)
    assert parent_of(shim.pid) == again.pid
    assert (await second.ended(shim))["never_started"] is True


async def test_shims_outlive_a_zygote_that_dies(spawner, tmp_path, monkeypatch):
    monkeypatch.setattr(spawning, "RESTART_S", 0.05)
    zygote = await there(spawner)
    asked = Asked(tmp_path)
    shim = await asked.spawn(spawner)
    assert asked.ready()
    os.kill(zygote.pid, signal.SIGKILL)
    assert gone(zygote.pid)
    async with asyncio.timeout(30):
        while spawner.zygote is zygote:
            await asyncio.sleep(0.01)
    assert processes.is_alive(shim.pid)
    assert (await there(spawner)).pid != zygote.pid
    assert (await asked.ended(shim))["never_started"] is True


async def test_without_a_zygote_every_shim_starts_an_interpreter(tmp_path):
    spawner = Spawner(PATH, prefork=False)
    spawner.open()
    asked = Asked(tmp_path)
    shim = await asked.spawn(spawner)
    assert parent_of(shim.pid) == os.getpid()
    assert asked.ready()
    assert (await asked.ended(shim))["never_started"] is True
    spawner.close()


def test_a_request_that_nobody_waits_for_any_more_starts_nothing(tmp_path):
    zygote = Zygote()
    asked = Asked(tmp_path)
    os.kill(zygote.process.pid, signal.SIGSTOP)
    errors = os.open(tmp_path / "shim.log", os.O_WRONLY | os.O_CREAT)
    zygote.ask(asked.theirs.fileno(), asked.launch, errors)
    zygote.channel.shutdown(socket.SHUT_RD)
    asked.theirs.close()
    os.kill(zygote.process.pid, signal.SIGCONT)
    assert asked.gate.recv(100) == b"", "the child cannot say who it is, and ends"
    assert [file.name for file in tmp_path.iterdir()] == ["shim.log"]
    assert (tmp_path / "shim.log").read_text() == ""
    os.close(errors)
    asked.gate.close()
    zygote.close()


def test_a_daemon_forks_its_shims_and_the_zygote_ends_with_it(tmp_path):
    daemon = Daemon(tmp_path / "s", env={"LEPTOND_ENGINE__START_TIMEOUT_S": "30"})
    daemon.start()
    pid = daemon.process.pid

    def zygote() -> int:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"zygote.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0

    first = until(zygote, "a zygote")

    def forked() -> int:
        """A job whose shim has been forked: the zygote may not have been ready for the first."""
        job = daemon.submit("sh", "-c", "read x < fifo", cwd=str(tmp_path))
        command = until(lambda: [one["pid"] for one in daemon.job(job)["attempts"] if one["pid"]], "it")[0]
        if parent_of(parent_of(command)) == first:
            return job
        (tmp_path / "fifo").write_text("go\n")
        daemon.finished(job)
        return 0

    os.mkfifo(tmp_path / "fifo")
    job = until(forked, "a forked shim")
    daemon.kill()
    assert gone(first)
    daemon.start()
    (tmp_path / "fifo").write_text("go\n")
    assert daemon.finished(job)["state"] == "succeeded"
    daemon.close()

"""Shims from the zygote, and from an interpreter of their own where it does not answer."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from leptond.attempt_files import directory as live
from leptond.base.clock import kernel_boot_id
from leptond.core.jobs.model import Identity
from leptond.engines import procs, shim_pool, zygote_handle
from leptond.engines.procs import tag_of
from leptond.engines.shim_handle import ShimHandle
from leptond.engines.shim_pool import ShimPool
from leptond.engines.zygote_handle import ZygoteHandle
from tests.support.daemon import PATIENCE_S, Daemon, gone, parent_of, until
from tests.unit.engines.shim.harness import SHIM, Zygote

PATH = "/usr/bin:/bin"


class Asked:
    """What a shim is started with, and our end of its gate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.told = {
            "attempt_id": "a1",
            "boot_id": kernel_boot_id(),
            "standby": str(directory),
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

    async def spawn(self, pool: ShimPool) -> ShimHandle:
        shim = await pool.acquire("a1", self.told, self.directory / "shim.log")
        shim.gate.connection.settimeout(30)
        return shim

    async def ended(self, shim: ShimHandle) -> dict:
        """Shuts the gate and waits for the record."""
        shim.gate.close()
        await procs.ended(shim.pidfd)
        os.close(shim.pidfd)
        return json.loads((self.directory / "exit.json").read_text())


def ready(shim: ShimHandle) -> bool:
    return shim.gate.connection.recv(100).startswith(b"READY")


@pytest.fixture
async def pool():
    one = ShimPool(PATH, prefork=True)
    one.open()
    await there(one)
    yield one
    one.close()


async def there(one: ShimPool) -> ZygoteHandle:
    """The zygote, once it is ready."""
    async with asyncio.timeout(30):
        while one.zygote is None:
            await asyncio.sleep(0.01)
    return one.zygote


async def test_a_forked_shim_looks_like_one_that_was_started(pool, tmp_path):
    zygote = await there(pool)
    asked = Asked(tmp_path)
    shim = await asked.spawn(pool)
    assert parent_of(shim.pid) == zygote.pid
    assert ready(shim)
    pinned = procs.pin(Identity(boot_id=kernel_boot_id(), pid=shim.pid, start_ticks=shim.start_ticks))
    assert pinned is not None
    os.close(pinned)
    proc = Path(f"/proc/{shim.pid}")
    shown = (proc / "environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert shown == [b"PATH=" + PATH.encode(), b"LEPTOND_SHIM=a1"]
    assert (proc / "cmdline").read_bytes().split(b"\0")[-2:] == [str(SHIM).encode(), b""]
    assert procs.attempt_of(shim.pid) == "a1"
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


async def test_the_zygote_holds_nothing_of_the_daemon_and_no_gate(pool, tmp_path):
    zygote = await there(pool)
    before = descriptors(zygote.pid)
    asked = Asked(tmp_path)
    shim = await asked.spawn(pool)
    assert ready(shim)
    async with asyncio.timeout(PATIENCE_S):
        while descriptors(zygote.pid) != before:  # while it forks a spare one, it holds that one's
            await asyncio.sleep(0.01)
    assert not any(link.startswith(("/memfd", str(tmp_path))) for link in before)
    os.kill(shim.pid, signal.SIGKILL)
    assert shim.gate.connection.recv(1) == b"", "the end of the shim is the end of its gate"
    shim.gate.close()
    await procs.ended(shim.pidfd)
    os.close(shim.pidfd)
    until(lambda: procs.start_ticks(shim.pid) is None, "the zygote collects it")


async def test_a_zygote_that_does_not_answer_is_given_up_for_a_cold_start(pool, tmp_path, monkeypatch):
    zygote = await there(pool)
    monkeypatch.setattr(zygote_handle, "ANSWER_S", 0.2)
    monkeypatch.setattr(shim_pool, "RESTART_S", 0.05)
    os.kill(zygote.pid, signal.SIGSTOP)
    asked = Asked(tmp_path)
    shim = await asked.spawn(pool)
    assert parent_of(shim.pid) == os.getpid()
    assert ready(shim)
    assert gone(zygote.pid)
    again = await there(pool)
    assert again.pid != zygote.pid
    assert (await asked.ended(shim))["never_started"] is True
    second = Asked(tmp_path / "second")
    shim = await second.spawn(pool)
    assert parent_of(shim.pid) == again.pid
    assert (await second.ended(shim))["never_started"] is True


async def test_shims_outlive_a_zygote_that_dies(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(shim_pool, "RESTART_S", 0.05)
    zygote = await there(pool)
    asked = Asked(tmp_path)
    shim = await asked.spawn(pool)
    assert ready(shim)
    os.kill(zygote.pid, signal.SIGKILL)
    assert gone(zygote.pid)
    async with asyncio.timeout(30):
        while pool.zygote is zygote:
            await asyncio.sleep(0.01)
    assert procs.is_alive(shim.pid)
    assert (await there(pool)).pid != zygote.pid
    assert (await asked.ended(shim))["never_started"] is True


async def test_without_a_zygote_every_shim_starts_an_interpreter(tmp_path):
    pool = ShimPool(PATH, prefork=False)
    pool.open()
    asked = Asked(tmp_path)
    shim = await asked.spawn(pool)
    assert parent_of(shim.pid) == os.getpid()
    assert ready(shim)
    assert (await asked.ended(shim))["never_started"] is True
    pool.close()


def test_a_request_that_nobody_waits_for_any_more_starts_nothing(tmp_path):
    zygote = Zygote()
    gate, theirs = socket.socketpair()
    gate.settimeout(30)
    launch = os.memfd_create("launch")
    os.write(launch, json.dumps(Asked(tmp_path).told).encode())
    os.kill(zygote.process.pid, signal.SIGSTOP)
    errors = os.open(tmp_path / "shim.log", os.O_WRONLY | os.O_CREAT)
    zygote.ask(theirs.fileno(), launch, errors)
    zygote.channel.shutdown(socket.SHUT_RD)
    theirs.close()
    os.close(launch)
    os.kill(zygote.process.pid, signal.SIGCONT)
    assert gate.recv(100) == b"", "the child cannot say who it is, and ends"
    assert [file.name for file in tmp_path.iterdir()] == ["shim.log"]
    assert (tmp_path / "shim.log").read_text() == ""
    os.close(errors)
    gate.close()
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


@pytest.fixture
def daemon(tmp_path):
    one = Daemon(tmp_path / "s", "--simulate-gpus", "1", env={"LEPTOND_ENGINE__ON_DECK": "0"})
    one.start()
    yield one
    one.close()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spares(daemon: Daemon) -> list[int]:
    """The shims that wait for an attempt, once there are as many as there shall be."""
    pid = daemon.process.pid

    def waiting() -> list[int]:
        for zygote in children(pid):
            if b"zygote.py" in Path(f"/proc/{zygote}/cmdline").read_bytes():
                # a child shows its parent's memory until it has settled in
                found = [one for one in children(zygote) if procs.attempt_of(one) == ""]
                return found if len(found) >= shim_pool.SPARES else []
        return []

    return until(waiting, "spare shims")


def shim_of(daemon: Daemon, job: int) -> int:
    """The pid of the shim of a running job."""
    pids = until(lambda: [one["pid"] for one in daemon.job(job)["attempts"] if one["pid"]], "its command")
    return parent_of(pids[-1])


HOLD = "echo $LEPTOND_ATTEMPT_ID; read x < fifo"


def test_a_shim_takes_one_attempt_after_another(daemon, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before, seen = spares(daemon), {}
    for _ in range(6):
        job = daemon.submit("sh", "-c", HOLD, gpus=1, cwd=str(tmp_path))
        shim = shim_of(daemon, job)
        attempt = daemon.job(job)["attempts"][-1]["id"]
        assert procs.attempt_of(shim) == attempt
        assert [one.job_id for one in live.live_attempts(daemon.state_dir / "jobs")] == [job]
        assert str(Path(f"/proc/{shim}/fd/2").readlink()).endswith(f"jobs/{job}/1/shim.log")
        inside = [str(fd) for fd in descriptors(shim) if "/jobs/" in fd]
        # the directory above is open for moments, on the way to a file
        assert all(f"/jobs/{job}/" in f"{fd}/" for fd in inside), f"something of an earlier attempt: {inside}"
        seen.setdefault(shim, []).append(job)
        (tmp_path / "fifo").write_text("go\n")
        ended = daemon.finished(job)
        assert (ended["state"], daemon.output(job)) == ("succeeded", f"{attempt}\n")
        until(lambda shim=shim: procs.attempt_of(shim) == "", "it waits for another")
        one = live.read(daemon.state_dir / "jobs", job, 1)
        assert (one.pid, one.alive) == (shim, False), "the attempt is over, though its process lives"
        assert not [fd for fd in descriptors(shim) if "/jobs/" in fd]
        assert Path(f"/proc/{shim}/fd/2").readlink() == Path("/dev/null")
    assert set(seen) <= set(before), "those that were forked in advance do"
    assert max(map(len, seen.values())) > 1, "and again"


def test_a_shim_whose_attempt_left_something_behind_ends_too(daemon, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    spares(daemon)
    command = "(trap '' TERM; sleep 600) & read x < fifo"
    job = daemon.submit("sh", "-c", command, gpus=1, cwd=str(tmp_path))
    shim = shim_of(daemon, job)
    (tmp_path / "fifo").write_text("go\n")
    assert daemon.finished(job)["state"] == "succeeded"
    assert gone(shim)


def test_a_shim_whose_attempt_was_stopped_ends_too(daemon):
    spares(daemon)
    job = daemon.submit("sleep", "600", gpus=1, cwd="/")
    shim = shim_of(daemon, job)
    daemon.post(f"/v1/jobs/{job}/cancel")
    assert daemon.finished(job)["state"] == "cancelled"
    assert gone(shim)


def test_spares_end_with_their_daemon_and_one_that_died_is_passed_over(daemon):
    for spare in spares(daemon):
        os.kill(spare, signal.SIGKILL)
    job = daemon.submit("true", gpus=1, cwd="/")
    ended = daemon.finished(job)
    assert (ended["state"], len(ended["attempts"])) == ("succeeded", 1)
    fresh = spares(daemon)
    daemon.kill()
    assert all(gone(spare) for spare in fresh)


def test_a_launch_that_does_not_fit_the_gate_has_a_shim_of_its_own(daemon):
    before = spares(daemon)
    word = "x" * (shim_pool.LAUNCH_BYTES + 1)
    job = daemon.submit("sh", "-c", f"sleep 0.1; echo {word} | wc -c", gpus=1, cwd="/")
    shim = shim_of(daemon, job)
    assert daemon.finished(job)["state"] == "succeeded"
    assert daemon.output(job) == f"{len(word) + 1}\n"
    assert shim not in before


def test_a_launch_reads_as_it_was_with_names_that_are_not_utf_8_and_on_one_line():
    for word in ("plain", "Zürich\n\x01\u2028", os.fsdecode(b"\xff/state")):
        launch = {"argv": [word], "env": {"A": word}, "grace_s": 0.1, "cgroup": None, "again": True}
        text = shim_pool.encoded(launch)
        assert json.loads(text) == launch
        assert b"\n" not in text

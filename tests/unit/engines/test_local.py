"""The engine of this machine, with real shims: what it prepares starts, ends, and is let go."""

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from leptond.attempt_files.directory import is_held
from leptond.base.clock import kernel_boot_id
from leptond.base.paths import Places
from leptond.config import EngineSettings, Settings
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import Identity, JobSpec
from leptond.engines import procs
from leptond.engines.base import Given, SpawnFailed
from leptond.engines.local import LocalEngine
from leptond.store.queue import jobs
from tests.support.store import open_new_store

SETTINGS = Settings(engine=EngineSettings(warm=False, containment="descendants", linger_s=0.1))
NOTHING = Given(gpus=[], claimed_at=0.0, claimed_boot=0.0)


@dataclass
class Claimed:
    """What the engine reads of an attempt."""

    id: str
    shim: Identity | None
    job_id: int = 1
    number: int = 1
    pid: int | None = None
    boot_id: str = kernel_boot_id()
    claimed_boot: float = time.clock_gettime(time.CLOCK_BOOTTIME)


SCRIPTS: dict[str, bytes] = {}


async def find_script(sha256: str) -> bytes | None:
    return SCRIPTS.get(sha256)


@contextlib.asynccontextmanager
async def engine_of(place: Path, settings: Settings = SETTINGS):
    places = Places(
        mode="user",
        config_file=place / "config",
        state_dir=place,
        socket=place / "leptond.sock",
        token_file=place / "token",
    )
    engine = LocalEngine(settings, places, "lineage", find_script)
    engine.open()
    try:
        yield engine
    finally:
        engine.close()
        await asyncio.sleep(0)


@pytest.fixture
async def store(tmp_path):
    async with open_new_store(tmp_path / "leptond.db") as one:
        yield one


async def submit(store, *argv: str, **spec):
    """A job that has not been tried."""
    admitted = admit(JobSpec(argv=list(argv), **spec), gpus=0, home="/", defaults=Defaults())
    await store.write(jobs.submit, [admitted], user="ada", now=1.0, max_pending=10)
    return await store.read(jobs.find, "1")


async def at_gate(engine: LocalEngine, job) -> Claimed:
    attempt_id = secrets.token_hex(16)
    return Claimed(id=attempt_id, shim=await engine.prepare(job, attempt_id))


async def gone(identity: Identity) -> None:
    """Returns when the process has ended."""
    pidfd = procs.pin(identity)
    if pidfd is not None:
        await procs.ended(pidfd)
        os.close(pidfd)


def standby(place: Path) -> list[str]:
    return [path.name for path in (place / "jobs" / ".deck").iterdir()]


async def test_an_attempt_starts_with_go_and_its_end_is_its_record(tmp_path, store):
    job = await submit(store, "sh", "-c", "echo out; exit 3")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        assert engine.is_prepared(attempt.id)
        assert standby(tmp_path) == [attempt.id]
        engine.go(attempt.id, NOTHING)
        assert await engine.started(attempt.id) > 0
        assert engine.start_mode(attempt.id) == "cold: warm starts are off"
        end = await engine.ended(job, attempt)
        assert (end.record.exit_code, end.log_tail, end.shim_lost) == (3, "out\n", False)
        engine.ack_end(attempt.id)
        assert not engine.is_prepared(attempt.id)
        assert standby(tmp_path) == []
    assert (engine.directory(attempt) / "output.log").read_text() == "out\n"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('#!/bin/sh -e\necho "$1 ${0##*/}"\n', "x y a b.sh\n"),
        ("echo é $LEPTOND_SCRIPT", "é /w/a b.sh\n"),
    ],
)
async def test_a_script_runs_from_a_copy_in_the_attempts_directory(tmp_path, store, text, printed):
    job = await submit(store, "/w/a b.sh", "x y", script=text)
    SCRIPTS[job.script_sha256] = text.encode()
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        await engine.started(attempt.id)
        end = await engine.ended(job, attempt)
        assert (end.record.exec_error, end.record.exit_code) == (None, 0)
        engine.ack_end(attempt.id)
        assert (engine.directory(attempt) / "output.log").read_text() == printed
        copy = engine.directory(attempt) / "script" / "a b.sh"
    assert copy.read_text() == text
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o700, 0o700)


async def test_a_script_that_is_lost_is_no_fault_of_the_machine(tmp_path, store):
    job = await submit(store, "/w/a.sh", script="echo lost\n")
    async with engine_of(tmp_path) as engine:
        with pytest.raises(SpawnFailed, match=r"the copy of its script /w/a\.sh is lost") as failure:
            await at_gate(engine, job)
    assert failure.value.number == errno.ENOENT
    assert standby(tmp_path) == []


async def test_what_is_discarded_leaves_nothing_and_never_ran(tmp_path, store):
    job = await submit(store, "touch", str(tmp_path / "ran"))
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        await engine.discard(attempt.id)
        assert not engine.is_prepared(attempt.id)
        assert (standby(tmp_path), procs.pin(attempt.shim)) == ([], None)
    assert not (tmp_path / "ran").exists()


async def test_an_abandoned_attempt_ends_as_never_started(tmp_path, store):
    job = await submit(store, "touch", str(tmp_path / "ran"))
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.abandon(attempt.id)
        end = await engine.ended(job, attempt)
        assert end.record.never_started
        engine.ack_end(attempt.id)
        assert standby(tmp_path) == []
    assert not (tmp_path / "ran").exists()


async def test_an_end_without_a_record_is_a_lost_shim_and_ends_the_command(tmp_path, store):
    job = await submit(store, "sleep", "600")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        command = await engine.started(attempt.id)
        os.kill(attempt.shim.pid, signal.SIGKILL)
        end = await engine.ended(job, attempt)
        assert (end.record, end.shim_lost) == (None, True)
        assert not procs.is_alive(command)


async def test_a_stop_reaches_the_command(tmp_path, store):
    job = await submit(store, "sleep", "600")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        await engine.started(attempt.id)
        engine.stop(attempt, "cancel", 30.0)
        end = await engine.ended(job, attempt)
        assert (end.record.signal, end.record.stop_reason) == (signal.SIGTERM, "cancel")
        engine.ack_end(attempt.id)


async def test_the_next_daemon_adopts_what_runs_and_reads_its_end(tmp_path, store):
    job = await submit(store, "sh", "-c", "read x < fifo; exit 5", cwd=str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        attempt.pid = await engine.started(attempt.id)
    async with engine_of(tmp_path) as engine:
        assert engine.adopt(attempt)
        assert await engine.released_gpus(attempt.id, 1, 1, attempt.shim) == []
        (tmp_path / "fifo").write_text("go\n")
        end = await engine.ended(job, attempt)
        assert end.record.exit_code == 5
        engine.ack_end(attempt.id)
    async with engine_of(tmp_path) as engine:
        assert not engine.adopt(attempt)


async def test_the_next_daemon_removes_what_was_in_standby(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
    async with engine_of(tmp_path) as engine:
        assert await engine.released_gpus(attempt.id, 1, 1, attempt.shim) is None
        await engine.clear_standby(set())
        assert (standby(tmp_path), procs.pin(attempt.shim)) == ([], None)


async def test_an_idle_shim_takes_the_next_attempt(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        pids: list[int] = []
        for number in range(1, 100):
            attempt = await at_gate(engine, replace(job, attempt=number))
            attempt.number = number + 1
            if attempt.shim.pid in pids:
                break
            pids.append(attempt.shim.pid)
            engine.go(attempt.id, NOTHING)
            await engine.started(attempt.id)
            assert (await engine.ended(job, attempt)).record.exit_code == 0
            engine.ack_end(attempt.id)
            while is_held(engine.directory(attempt)):
                await asyncio.sleep(0.01)
        assert attempt.shim.pid in pids, "one came back to the pool"
        engine.go(attempt.id, NOTHING)
        assert await engine.started(attempt.id) > 0
        assert engine.start_mode(attempt.id) == "cold: warm starts are off"
        assert (await engine.ended(job, attempt)).record.attempt_id == attempt.id
        engine.ack_end(attempt.id)


async def test_a_shim_that_cannot_get_ready_says_why(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        (tmp_path / "jobs" / "1").write_text("in the way of the job's directory")
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        assert await engine.started(attempt.id) is None
        end = await engine.ended(job, attempt)
        assert end.record.exec_error.startswith("cannot start: ")
        engine.ack_end(attempt.id)


async def test_a_full_disk_is_said_with_its_number(tmp_path, store, monkeypatch):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        assert await engine.check_writable() == ""
        (tmp_path / "jobs" / ".deck").rmdir()
        (tmp_path / "jobs" / ".deck").write_text("in the way")
        with pytest.raises(SpawnFailed, match="Not a directory") as failure:
            await at_gate(engine, job)
        assert failure.value.number == errno.ENOTDIR
        (tmp_path / "jobs" / ".probe").write_text("in the way")
        assert "Not a directory" in await engine.check_writable()

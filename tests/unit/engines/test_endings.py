"""The way of an attempt to its end."""

import asyncio
import os
import signal

from leptond.attempt_files import layout
from leptond.engines import endings, procs
from tests.unit.engines.local import NOTHING, at_gate, engine_of, standby, store, submit

__all__ = ["store"]


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


async def running(engine, job):
    """An attempt whose command runs, and the command's pid."""
    attempt = await at_gate(engine, job)
    engine.go(attempt.id, NOTHING)
    attempt.pid = await engine.started(attempt.id)
    return attempt


async def test_a_stop_that_cannot_be_written_is_written_again(tmp_path, store, monkeypatch):
    monkeypatch.setattr(endings, "STOP_RETRY_S", 0.02)
    job = await submit(store, "sleep", "600")
    async with engine_of(tmp_path) as engine:
        attempt = await running(engine, job)
        place = engine.directory(attempt)
        away = place.rename(tmp_path / "away")
        engine.stop(attempt, "cancel", 30.0)
        await asyncio.sleep(0.1)  # several tries
        assert procs.is_alive(attempt.pid)
        away.rename(place)
        end = await engine.ended(job, attempt)
        assert (end.record.signal, end.record.stop_reason) == (signal.SIGTERM, "cancel")
        engine.ack_end(attempt.id)


async def test_a_stop_after_the_end_is_nothing(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        attempt = await running(engine, job)
        assert (await engine.ended(job, attempt)).record.exit_code == 0
        engine.stop(attempt, "cancel", 0.0)
        assert not (engine.directory(attempt) / layout.STOP).exists()
        engine.ack_end(attempt.id)
        engine.ack_end(attempt.id)


async def test_what_ended_while_no_daemon_was_there_is_read_from_its_files(tmp_path, store):
    job = await submit(store, "sh", "-c", "read x < fifo; echo last; exit 4", cwd=str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    async with engine_of(tmp_path) as engine:
        attempt = await running(engine, job)
    shim = procs.pin(attempt.shim)
    (tmp_path / "fifo").write_text("go\n")
    await procs.ended(shim)
    os.close(shim)
    async with engine_of(tmp_path) as engine:
        assert not engine.adopt(attempt)
        end = await engine.ended(job, attempt)
        assert (end.record.exit_code, end.log_tail, end.shim_lost) == (4, "last\n", False)


async def test_an_attempt_of_another_boot_is_not_looked_for(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        await engine.discard(attempt.id)
        attempt.boot_id = "another"
        end = await engine.ended(job, attempt)
        assert (end.record, end.boot_changed, end.shim_lost) == (None, True, False)


async def test_processes_without_a_job_are_found_and_ended(tmp_path, store):
    job = await submit(store, "sleep", "600")
    async with engine_of(tmp_path) as engine:
        attempt = await running(engine, job)
        assert attempt.id in engine.orphans()
    async with engine_of(tmp_path) as engine:
        assert attempt.id in engine.orphans()
        await engine.end_orphan(attempt.id, 1, 1)
        assert not procs.is_alive(attempt.pid)
        async with asyncio.timeout(30):
            while any(attempt.id.startswith(one) for one in engine.orphans()):
                await asyncio.sleep(0.01)

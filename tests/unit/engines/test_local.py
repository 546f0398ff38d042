"""The engine of this machine, with real shims: what it prepares starts, ends, and is let go."""

import asyncio
import os

from msgspec.structs import replace

from leptond.attempt_files.directory import is_held
from tests.unit.engines.local import NOTHING, at_gate, engine_of, standby, store, submit

__all__ = ["store"]


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


async def test_the_next_daemon_adopts_what_runs_and_reads_its_end(tmp_path, store):
    job = await submit(store, "sh", "-c", "read x < fifo; exit 5", cwd=str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        attempt.pid = await engine.started(attempt.id)
    async with engine_of(tmp_path) as engine:
        assert engine.adopt(attempt)
        found = await engine.taken(attempt.id, 1, 1, attempt.shim)
        assert (found.after, found.gpus) == (None, [])
        (tmp_path / "fifo").write_text("go\n")
        end = await engine.ended(job, attempt)
        assert end.record.exit_code == 5
        engine.ack_end(attempt.id)
    async with engine_of(tmp_path) as engine:
        assert not engine.adopt(attempt)


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

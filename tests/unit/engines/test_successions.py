"""Successions of real shims: who starts, in which order, on which slot, and what is taken back."""

import asyncio
import contextlib
import os
import signal

from msgspec.structs import replace

from leptond.core.jobs.model import LeasedGpu
from leptond.engines.base import Given
from tests.unit.engines.local import NOTHING, at_gate, engine_of, standby, store, submit

__all__ = ["store"]

GPUS = [[LeasedGpu(uuid=f"GPU-{number}", index=number)] for number in range(2)]


class World:
    """An engine, and attempts of one job that writes its GPU and then reads from a FIFO."""

    def __init__(self, engine, job, place):
        self.engine, self.job, self.place = engine, job, place
        self.count = 0

    async def prepared(self):
        attempt = await at_gate(self.engine, replace(self.job, attempt=self.count))
        self.count += 1
        attempt.number = self.count
        return attempt

    async def runs(self, gpus):
        attempt = await self.prepared()
        self.engine.go(attempt.id, Given(gpus=gpus, claimed_at=1.0, claimed_boot=1.0))
        assert await self.engine.started(attempt.id)
        return attempt

    def succeed(self, attempt, *, behind=None, slots=GPUS):
        behind_id = behind.id if behind is not None else None
        return self.engine.succeed("line", attempt.id, slots, behind=behind_id, until_boot=None)

    def outcome(self, attempt):
        return asyncio.ensure_future(self.engine.outcome(attempt.id, 1, attempt.number))

    async def end(self, attempt):
        """Lets the command of an attempt end; its record."""
        with (self.place / f"fifo{attempt.number}").open("w") as file:
            file.write("go\n")
        end = await self.engine.ended(self.job, attempt)
        self.engine.ack_end(attempt.id)
        return end.record

    def gpus(self):
        return (self.place / "out").read_text().split()


SCRIPT = (
    "echo $CUDA_VISIBLE_DEVICES >> out; test -p fifo$LEPTOND_ATTEMPT || exit 0; read x < fifo$LEPTOND_ATTEMPT"
)


@contextlib.asynccontextmanager
async def world_of(tmp_path, store, fifos=(), script=SCRIPT):
    for number in fifos:
        os.mkfifo(tmp_path / f"fifo{number}")
    job = await submit(store, "sh", "-c", script, cwd=str(tmp_path))
    async with engine_of(tmp_path) as engine, asyncio.timeout(60):
        yield World(engine, job, tmp_path)


async def test_slots_are_taken_in_order_whichever_comes_free(tmp_path, store):
    async with world_of(tmp_path, store, fifos=range(1, 6)) as world:
        one, other = [await world.runs(gpus) for gpus in GPUS]
        waiting = [await world.prepared() for _ in range(3)]
        outcomes = []
        for number, attempt in enumerate(waiting):
            assert world.succeed(attempt, behind=waiting[number - 1] if number else None)
            outcomes.append(world.outcome(attempt))
        for attempt in (one, other):
            assert world.engine.hand_on("line", attempt.id, until_boot=None)
        assert (await world.end(other)).handed_on == "line"
        first = await outcomes[0]
        assert (first.after, first.gpus) == (other.id, ["GPU-1"])
        assert await world.engine.started(waiting[0].id)
        world.engine.give_turn(waiting[1].id)
        assert (await world.end(waiting[0])).handed_on == "line"
        second = await outcomes[1]
        assert (second.after, second.gpus) == (waiting[0].id, ["GPU-1"])
        assert second.claimed_boot > first.claimed_boot
        assert await world.engine.started(waiting[1].id)
        await asyncio.sleep(0)
        assert not outcomes[2].done(), "a slot is taken once"
        assert (await world.end(one)).handed_on == "line"
        third = await outcomes[2]
        assert (third.after, third.gpus) == (one.id, ["GPU-0"])
        assert await world.engine.started(waiting[2].id)
        world.engine.end_succession("line")
        for attempt in waiting[1:]:
            assert (await world.end(attempt)).handed_on == "", "nobody can take it"
        assert world.gpus() == ["GPU-0", "GPU-1", "GPU-1", "GPU-1", "GPU-0"]


async def test_an_attempt_that_was_withdrawn_does_not_start_and_can_be_given_out_again(tmp_path, store):
    async with world_of(tmp_path, store, fifos=[1]) as world:
        running = await world.runs(GPUS[0])
        one = await world.prepared()
        assert world.succeed(one)
        world.engine.hand_on("line", running.id, until_boot=None)
        world.engine.withdraw(one.id)
        assert await world.outcome(one) is None
        assert (await world.end(running)).handed_on == "line"
        assert world.engine.is_prepared(one.id)
        assert standby(tmp_path) == [one.id]
        world.engine.end_succession("line")
        world.engine.go(one.id, NOTHING)
        assert await world.engine.started(one.id)
        assert (await world.engine.ended(world.job, one)).record.exit_code == 0


async def test_a_bad_end_hands_nothing_on(tmp_path, store):
    async with world_of(tmp_path, store, script="exit 3") as world:
        running = await world.prepared()
        one = await world.prepared()
        assert world.succeed(one)
        world.engine.hand_on("line", running.id, until_boot=None)
        world.engine.go(running.id, Given(gpus=GPUS[0], claimed_at=1.0, claimed_boot=1.0))
        await world.engine.started(running.id)
        record = (await world.engine.ended(world.job, running)).record
        assert (record.exit_code, record.handed_on) == (3, "")


async def test_nothing_is_handed_on_after_its_time(tmp_path, store):
    async with world_of(tmp_path, store, fifos=[1]) as world:
        running, one = await world.runs(GPUS[0]), await world.prepared()
        assert world.succeed(one)
        world.engine.hand_on("line", running.id, until_boot=0.5)
        assert (await world.end(running)).handed_on == ""


async def test_a_shim_that_does_not_answer_is_killed_and_has_not_started(tmp_path, store, monkeypatch):
    monkeypatch.setattr("leptond.engines.successions.WITHDRAW_S", 0.05)
    async with world_of(tmp_path, store) as world:
        one = await world.prepared()
        assert world.succeed(one)
        os.kill(one.shim.pid, signal.SIGSTOP)
        world.engine.withdraw(one.id)
        assert await world.outcome(one) is None
        assert not world.engine.is_prepared(one.id)
        assert not (tmp_path / "jobs" / "1" / "1").exists()


async def test_the_next_daemon_finds_what_has_started_without_it(tmp_path, store):
    async with world_of(tmp_path, store, fifos=[1, 2]) as world:
        running, one, another = await world.runs(GPUS[0]), await world.prepared(), await world.prepared()
        assert world.succeed(one)
        assert world.succeed(another, behind=one)
        world.engine.hand_on("line", running.id, until_boot=None)
        taken = world.outcome(one)
        await world.end(running)
        told = await taken
    async with engine_of(tmp_path) as engine:
        found = await engine.taken(one.id, 1, one.number, one.shim)
        assert (found.after, found.gpus) == (running.id, ["GPU-0"])
        assert found.claimed_boot == told.claimed_boot
        assert await engine.taken(another.id, 1, another.number, another.shim) is None
        (tmp_path / "fifo2").write_text("go\n")

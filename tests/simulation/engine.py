"""The engine and the device backend of a simulated machine, behind the daemon's own protocols. It follows
leptond/engines/local.py step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job, LeasedGpu
from leptond.core.outcome.evidence import End
from leptond.engines.base import Given, SpawnFailed, Taken
from leptond.gpus.base import Device, GpuBackendError, Sample
from tests.simulation.machine import KILL_TIMEOUT_S, LINGER_S, Machine, Shim, Succession

START_TIMEOUT_S = 20.0
OVERDUE_S = 15.0


class SimulatedEngine:
    """Runs attempts on `machine`, for one life of the daemon."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._watched: dict[str, Shim] = {}
        self._successions: dict[str, Succession] = {}
        self._waiting: set[str] = set()
        self._withdrawn: set[str] = set()
        self.dead = False

    async def _until(self, shim: Shim, true: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Whether `true()` came within the limit; looked at whenever the shim has something to tell."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                while not true():
                    told = loop.create_future()
                    shim.waiters.append(lambda told=told: self.dead or told.done() or told.set_result(None))
                    await told
        except TimeoutError:
            return False
        return True

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        if self.dead:
            raise SpawnFailed("the daemon is dead")
        try:
            shim = self._machine.fork(job, attempt_id, self)
        except OSError as error:
            raise SpawnFailed(
                f"the supervising process could not be started: {error}", error.errno
            ) from error
        self._watched[attempt_id] = shim
        await self._until(shim, lambda: shim.state != "new", START_TIMEOUT_S)
        if shim.state != "gate":
            self.abandon(attempt_id)
            if not self.dead:
                self._machine.kill_shim(shim)
            self._watched.pop(attempt_id, None)
            raise SpawnFailed("the supervising process did not get ready")
        return shim.id

    def is_prepared(self, attempt_id: str) -> bool:
        shim = self._watched.get(attempt_id)
        return shim is not None and shim.state != "gone"

    async def discard(self, attempt_id: str) -> None:
        shim = self._watched.get(attempt_id)
        if shim is not None:
            self.abandon(attempt_id)
            await self._gone(shim)
            self._watched.pop(attempt_id, None)
        if not self.dead:
            self._machine.clear(attempt_id)

    async def _gone(self, shim: Shim) -> None:
        """Waits for the end of a shim whose gate is shut, and brings it about if it does not come."""
        if not await self._until(shim, lambda: shim.state == "gone", OVERDUE_S) and not self.dead:
            self._machine.kill_shim(shim)

    async def clear_standby(self, live: Collection[str]) -> None:
        for attempt_id, shim in list(self._machine.shims.items()):
            if attempt_id not in live and not shim.go and attempt_id in self._machine.directories:
                if shim.state != "new":  # else it has not yet said who it is
                    await self._gone(shim)
                if not self.dead:
                    self._machine.clear(attempt_id)

    def succeed(
        self,
        name: str,
        attempt_id: str,
        slots: Sequence[Sequence[LeasedGpu]],
        *,
        behind: str | None,
        until_boot: float | None,
    ) -> bool:
        shim = self._watched.get(attempt_id)
        if self.dead or shim is None or shim.state != "gate" or attempt_id in self._waiting:
            return False
        self._waiting.add(attempt_id)
        before = self._watched.get(behind) if behind in self._waiting and behind is not None else None
        self._machine.succeed(
            self._succession(name), shim, [list(gpus) for gpus in slots], before, until_boot
        )
        return True

    def _succession(self, name: str) -> Succession:
        if name not in self._successions:
            self._successions[name] = Succession(name)
        return self._successions[name]

    def hand_on(self, name: str, attempt_id: str, *, until_boot: float | None) -> bool:
        shim = self._watched.get(attempt_id)
        if self.dead or shim is None or shim.owner is not self or shim.state == "gone":
            return False
        self._machine.hand_on(self._succession(name), shim, until_boot)
        return True

    def give_turn(self, attempt_id: str) -> None:
        shim = self._watched.get(attempt_id)
        if not self.dead and shim is not None and attempt_id in self._waiting:
            self._machine.give_turn(shim)

    def withdraw(self, attempt_id: str) -> None:
        shim = self._watched.get(attempt_id)
        if self.dead or shim is None or attempt_id not in self._waiting or attempt_id in self._withdrawn:
            return  # each is asked once: another answer would be taken for that of its next succession
        self._withdrawn.add(attempt_id)
        self._machine.withdraw(shim)

    async def outcome(self, attempt_id: str, job_id: int, number: int) -> Taken | None:
        shim = self._watched[attempt_id]
        await self._until(
            shim, lambda: shim.withdrawn or shim.command is not None or shim.leaving or shim.state == "gone"
        )
        self._waiting.discard(attempt_id)
        self._withdrawn.discard(attempt_id)
        if shim.withdrawn and shim.taken is None:
            shim.withdrawn = False
            return None
        if shim.state == "gone" and shim.said is None:
            return self._machine.placed.get(attempt_id)
        return shim.taken

    def end_succession(self, name: str) -> None:
        if not self.dead and name in self._successions:
            self._successions.pop(name).open = False

    async def taken(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> Taken | None:
        there = self._machine.shims.get(attempt_id)
        if there is not None:
            await self._until(there, lambda: there.state in ("running", "gone") or there.leaving)
        return self._machine.placed.get(attempt_id)

    def go(self, attempt_id: str, given: Given) -> None:
        if not self.dead:
            self._machine.open_gate(self._watched[attempt_id], given)

    async def started(self, attempt_id: str) -> int | None:
        shim = self._watched[attempt_id]
        await self._until(shim, lambda: shim.state != "gate", START_TIMEOUT_S)
        return shim.id.pid + 1_000_000 if shim.command is not None else None

    async def warmer(self) -> None:
        await asyncio.get_running_loop().create_future()

    def is_outdated(self, attempt_id: str) -> bool:
        return False

    def start_mode(self, attempt_id: str) -> str | None:
        return None

    def ack_end(self, attempt_id: str) -> None:
        if not self.dead:
            self._machine.booked(attempt_id)

    def abandon(self, attempt_id: str) -> None:
        shim = self._watched.get(attempt_id)
        if shim is not None and not self.dead:
            self._machine.shut(shim)

    def adopt(self, attempt: Attempt) -> bool:
        shim = self._machine.shims.get(attempt.id)
        if self.dead or attempt.shim is None or shim is None or shim.id != attempt.shim:
            return False
        self._watched[attempt.id] = shim
        return True

    def is_alive(self, attempt_id: str) -> bool:
        shim = self._watched.get(attempt_id)
        return shim is not None and not self.dead and shim.state != "gone"

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        shim = self._watched.get(attempt.id)
        if shim is not None and not self.dead:
            self._machine.stop(shim, reason, grace_s)

    async def ended(self, job: Job, attempt: Attempt) -> End:
        shim = self._watched.get(attempt.id)
        if shim is not None:
            # what it said to an earlier daemon this one has not heard
            await self._until(
                shim, lambda: (shim.said is not None and shim.owner is self) or shim.state == "gone"
            )
            self._watched.pop(attempt.id, None)
        machine = self._machine
        told = shim.said if shim is not None and shim.owner is self else None
        record = told or machine.records.get(attempt.id)
        command = machine.commands.get(attempt.id)
        words = command.words if command is not None else ""
        if record is None:
            if attempt.boot_id != machine.world.boot_id:
                return End(record=None, boot_changed=True, log_tail=words)
            left = await self._end_remains(attempt.id, LINGER_S, KILL_TIMEOUT_S)
            lost = ExitRecord(attempt_id=attempt.id, boot_id=attempt.boot_id, unkillable=left)
            return End(record=lost if left else None, shim_lost=True, log_tail=words)
        return End(record=record, log_tail="" if record.exit_code == 0 else words)

    async def _end_remains(self, attempt_id: str, grace_s: float, limit_s: float) -> int:
        machine = self._machine
        command = machine.alive.get(attempt_id)
        if command is None:
            return 0
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if not command.ignores_term and not command.main_done:
            machine.world.after(command.reacts_s, machine._main_ends, command, 143, None)
        while command.alive and loop.time() - begin < limit_s:
            await asyncio.sleep(0.5)
            if loop.time() - begin >= grace_s and command.alive and not command.killed and not self.dead:
                machine.sigkill(command)
        return int(command.alive)

    async def check_writable(self) -> str:
        await asyncio.sleep(0.001)
        return "no space left on device" if self._machine.disk_full else ""

    def orphans(self) -> set[str]:
        return set(self._machine.alive)

    async def end_orphan(self, attempt_id: str, job_id: int, number: int) -> None:
        await self._end_remains(attempt_id, 0.5, 5.0)


class SimulatedDevices:
    """The GPUs of `machine` (leptond.gpus.base.GpuBackend)."""

    name = "simulated"
    note: str | None = None

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._opened: list[str] = []

    async def open(self) -> list[Device]:
        devices = await self.rescan()
        self._opened = [device.uuid for device in devices]
        return devices

    async def rescan(self) -> list[Device]:
        if self._machine.driver_hangs:
            await asyncio.sleep(10.0)
            raise GpuBackendError("the driver does not answer")
        return [
            Device(uuid=uuid, index=index, name="GPU", memory_bytes=1 << 34)
            for index, uuid in enumerate(self._machine.uuids)
            if uuid not in self._machine.gone_gpus
        ]

    async def sample(self) -> list[Sample]:
        hangs = self._machine.driver_hangs
        if hangs:
            await asyncio.sleep(10.0)
        now = self._machine.world.wall()
        return [Sample(uuid=uuid, sampled_at=now, error=self._error(uuid, hangs)) for uuid in self._opened]

    def _error(self, uuid: str, hangs: bool) -> str | None:
        if hangs:
            return "no answer from the driver"
        return "GPU is lost" if uuid in self._machine.gone_gpus else self._machine.sick_gpus.get(uuid)

    async def close(self) -> None:
        return None

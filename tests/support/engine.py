"""An engine in memory behind the daemon's own protocol: a test says how attempts end, and sees what was asked
of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from leptond.base.clock import SystemClock, kernel_boot_id
from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job, LeasedGpu
from leptond.core.outcome.evidence import End
from leptond.engines.base import Given, SpawnFailed, Taken


class FakeEngine:
    """Attempts without processes. `spawn_error` and `disk_error` fail what is asked for next, `disk_checks`
    counts the tries of the disk; `earlier` has the starts that an earlier daemon did not see (by id),
    `alive` the attempts that can be adopted, `processes` those that have processes; `on_go` is called with an
    id before its gate opens."""

    def __init__(self) -> None:
        self.spawn_error: SpawnFailed | None = None
        self.disk_error = ""
        self.disk_checks = 0
        self.earlier: dict[str, Taken] = {}
        self.offered: dict[str, list[str]] = {}
        self.holders: dict[str, str] = {}
        self.withdrawn: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self._outcomes: dict[str, asyncio.Future[Taken | None]] = {}
        self.alive: set[str] = set()
        self.processes: set[str] = set()
        self.on_go: Callable[[str], None] = lambda attempt_id: None
        self.gates: dict[str, int] = {}
        self.released: dict[str, Given] = {}
        self.discarded: list[str] = []
        self.abandoned: list[str] = []
        self.acknowledged: list[str] = []
        self.stops: list[tuple[str, str, float]] = []
        self.pushed: list[str] = []
        self.killed: list[str] = []
        self.cleared: list[set[str]] = []
        self.calls: list[str] = []
        self._free = asyncio.Event()
        self._free.set()
        self._ends: dict[str, asyncio.Future[End]] = {}
        self._pid = 1000

    def hold_back(self, on: bool) -> None:
        """While `on`, no shim reaches its gate."""
        if on:
            self._free.clear()
        else:
            self._free.set()

    def end(self, attempt_id: str, exit_code: int | None = 0, **facts: Any) -> None:
        """The command of an attempt ends, and with it all its processes."""
        told: dict[str, Any] = {"exit_code": exit_code, "run_s": 1.0, **facts}
        name = self.holders.pop(attempt_id, "")
        if name in self.offered and exit_code == 0 and "stop_reason" not in facts:
            told["handed_on"] = name
            self.take(name, attempt_id)
        record = ExitRecord(attempt_id=attempt_id, boot_id=kernel_boot_id(), **told)
        self._end_of(attempt_id).set_result(End(record=record))

    def take(self, name: str, after: str) -> None:
        """The first that waits in a succession takes the slot of an attempt."""
        if not self.offered[name]:
            return
        attempt_id = self.offered[name].pop(0)
        gpus = self.released[after].gpus
        now = SystemClock()
        self.on_go(attempt_id)
        self.released[attempt_id] = Given(gpus=gpus, claimed_at=now.wall(), claimed_boot=now.boot())
        self.holders[attempt_id] = name
        self._outcomes[attempt_id].set_result(
            Taken(
                after=after,
                gpus=[gpu.uuid for gpu in gpus],
                claimed_at=now.wall(),
                claimed_boot=now.boot(),
            )
        )

    def succeed(
        self,
        name: str,
        attempt_id: str,
        slots: Sequence[Sequence[LeasedGpu]],
        *,
        behind: str | None,
        until_boot: float | None,
    ) -> bool:
        if attempt_id not in self.gates:
            return False
        assert behind is None or self.offered[name][-1:] in ([behind], [])
        self.offered.setdefault(name, []).append(attempt_id)
        self._outcomes[attempt_id] = asyncio.get_running_loop().create_future()
        return True

    def hand_on(self, name: str, attempt_id: str, *, until_boot: float | None) -> bool:
        if attempt_id in self.alive:
            return False
        self.holders[attempt_id] = name
        return True

    def give_turn(self, attempt_id: str) -> None:
        pass

    def withdraw(self, attempt_id: str) -> None:
        for waiting in self.offered.values():
            if attempt_id in waiting:
                waiting.remove(attempt_id)
                self.withdrawn.append(attempt_id)
                self._outcomes[attempt_id].set_result(None)

    async def outcome(self, attempt_id: str, job_id: int, number: int) -> Taken | None:
        taken = await self._outcomes[attempt_id]
        await self.answers.wait()
        return taken

    def end_succession(self, name: str) -> None:
        assert not self.offered.pop(name, [])

    async def taken(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> Taken | None:
        return self.earlier.get(attempt_id)

    def _end_of(self, attempt_id: str) -> asyncio.Future[End]:
        if attempt_id not in self._ends:
            self._ends[attempt_id] = asyncio.get_running_loop().create_future()
        return self._ends[attempt_id]

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        await self._free.wait()
        if self.spawn_error is not None:
            raise self.spawn_error
        self._pid += 1
        self.gates[attempt_id] = job.id
        return Identity(boot_id=kernel_boot_id(), pid=self._pid, start_ticks=self._pid)

    def is_prepared(self, attempt_id: str) -> bool:
        return attempt_id in self.gates

    async def discard(self, attempt_id: str) -> None:
        self.gates.pop(attempt_id, None)
        self.discarded.append(attempt_id)

    async def clear_standby(self, live: Collection[str]) -> None:
        self.cleared.append(set(live))

    def go(self, attempt_id: str, given: Given) -> None:
        self.on_go(attempt_id)
        self.released[attempt_id] = given

    async def started(self, attempt_id: str) -> int | None:
        return self._pid

    async def warmer(self) -> None:
        await asyncio.get_running_loop().create_future()

    def is_outdated(self, attempt_id: str) -> bool:
        return False

    def start_mode(self, attempt_id: str) -> str | None:
        return None

    async def check_writable(self) -> str:
        self.disk_checks += 1
        return self.disk_error

    def abandon(self, attempt_id: str) -> None:
        self.gates.pop(attempt_id, None)
        self.abandoned.append(attempt_id)
        self.end(attempt_id, None, never_started=True)

    def adopt(self, attempt: Attempt) -> bool:
        return attempt.id in self.alive

    def is_alive(self, attempt_id: str) -> bool:
        return attempt_id in self.alive or (
            attempt_id in self.released and not self._end_of(attempt_id).done()
        )

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        self.pushed.append(attempt.id)

    async def ended(self, job: Job, attempt: Attempt) -> End:
        return await self._end_of(attempt.id)

    def ack_end(self, attempt_id: str) -> None:
        self.acknowledged.append(attempt_id)

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        self.stops.append((attempt.id, reason, grace_s))

    def orphans(self) -> set[str]:
        return self.processes

    async def end_orphan(self, attempt_id: str, job_id: int, number: int) -> None:
        self.killed.append(attempt_id)

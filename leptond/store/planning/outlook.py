"""Plans and forecasts that serve all readers, until the queue changes or they are a moment old."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import msgspec

from leptond.core.scheduling.forecast import Eta, Forecast, StartEstimates
from leptond.core.scheduling.inputs import PlanInput, Policy
from leptond.core.scheduling.planner import Plan, plan
from leptond.store import Connection
from leptond.store.database import events
from leptond.store.planning import forecast, snapshot
from leptond.store.planning.candidates import WINDOW
from leptond.store.planning.forecast import QUICK_WINDOW
from leptond.store.queue import lists

MAX_AGE_S = 2.0
"""Seconds for which a forecast serves while nothing changes."""

BUSY_AGE_S = 1.0
"""The same, whatever changes, while forecasts have taken more than `BUDGET` of the time."""

BUDGET = 0.25
"""The part of the last `BUSY_AGE_S` seconds that goes into forecasts before readers are given older ones."""

SMALL_S = 0.0005
"""Costs up to this are those of a look at what is there already, and do not count."""

KEPT = 4
"""Forecasts that are kept: of the daemon's own policy, and of others that are asked for."""


class Outlook:
    """What the planner makes of one snapshot, each part made when it is first asked for. `now` and `boot`:
    when the snapshot was taken, in UTC seconds and in those of CLOCK_BOOTTIME. `cost` takes what a part has
    cost, in seconds."""

    def __init__(
        self,
        *,
        now: float,
        boot: float,
        last_event: int,
        unhealthy: Mapping[str, str],
        cpu_slots: int,
        policy: Policy,
        cost: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.boot = boot
        self.now = now
        self._last_event = last_event
        self._machine = (unhealthy, cpu_slots, policy)
        self._cost = cost
        self._inputs: dict[int, PlanInput] = {}
        self._plans: dict[int, Plan] = {}
        self._starts: Mapping[int, Forecast] | None = None
        self._estimates: StartEstimates | None = None
        self._etas: Mapping[int, Eta] | None = None

    def is_of(self, unhealthy: Mapping[str, str], cpu_slots: int, policy: Policy) -> bool:
        """Return True if it was made of a machine that is the same."""
        return self._machine == (unhealthy, cpu_slots, policy)

    def is_after(self, last_event: int) -> bool:
        """Return True if nothing has happened since."""
        return self._last_event == last_event

    def inputs(self, db: Connection, window: int) -> PlanInput:
        """Return the planner's input with the first `window` jobs."""
        if window not in self._inputs:
            with self._timed():
                self._inputs[window] = self._read(db, window)
        return self._inputs[window]

    def _read(self, db: Connection, window: int) -> PlanInput:
        unhealthy, cpu_slots, policy = self._machine
        found = snapshot.plan_input(
            db,
            now=self.now,
            boot=self.boot,
            unhealthy=unhealthy,
            cpu_slots=cpu_slots,
            policy=policy,
            window=window,
        )
        members = [job.id for job in found.running if job.array_id is not None]
        members += [job.id for job in found.waiting if job.array_id is not None]
        named = msgspec.structs.replace(found, refs=lists.refs(db, members))
        return forecast.with_reports(db, named)

    def plan(self, db: Connection, window: int) -> Plan:
        """Return the plan for the first `window` jobs."""
        if window not in self._plans:
            inputs = self.inputs(db, window)
            with self._timed():
                self._plans[window] = plan(inputs)
        return self._plans[window]

    def starts(self, db: Connection) -> Mapping[int, Forecast]:
        """Return the likely starts of the first jobs, by job id."""
        if self._starts is None:
            inputs = self.inputs(db, QUICK_WINDOW)
            with self._timed():
                self._starts = forecast.starts(inputs)
        return self._starts

    def eta(self, db: Connection, job_id: int) -> Eta | None:
        """Return the start of a job with its uncertainty; None where the forecast does not reach it. What was
        simulated for one job serves for all others."""
        estimates = self._begun(db)
        with self._timed():
            return estimates.of(job_id)

    def etas(self, db: Connection) -> Mapping[int, Eta]:
        """Return starts with their uncertainty, by job id."""
        if self._etas is None:
            estimates = self._begun(db)
            with self._timed():
                self._etas = estimates.all()
        return self._etas

    def _begun(self, db: Connection) -> StartEstimates:
        if self._estimates is None:
            self._estimates = forecast.estimates(self.inputs(db, WINDOW))
        return self._estimates

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._cost(time.perf_counter() - began)


class Forecasts:
    """The newest outlooks, for the readers of one thread. `made`: how many there have been.

    A reader gets one that was made for another, if nothing has happened since. Where so much happens, and so
    many ask, that forecasts would take all of the time, it may get one that is a second old."""

    def __init__(self) -> None:
        self.made = 0
        self._kept: list[Outlook] = []
        self._costs: deque[tuple[float, float]] = deque()
        self._now = 0.0

    def outlook(
        self,
        db: Connection,
        *,
        now: float,
        boot: float,
        unhealthy: Mapping[str, str],
        cpu_slots: int,
        policy: Policy,
        anew: bool = False,
    ) -> Outlook:
        """Return the outlook on the snapshot `db`: one that was made for another reader, if that serves,
        unless it has to be made `anew`."""
        self._now = boot
        last = events.last_id(db)
        for one in self._kept:
            age_s = abs(boot - one.boot)  # a reader that came first may have waited for one that came later
            if anew or not one.is_of(unhealthy, cpu_slots, policy):
                continue
            if age_s <= (MAX_AGE_S if one.is_after(last) else BUSY_AGE_S if self._is_busy() else -1.0):
                return one
        self.made += 1
        made = Outlook(
            now=now,
            boot=boot,
            last_event=last,
            unhealthy=dict(unhealthy),
            cpu_slots=cpu_slots,
            policy=policy,
            cost=self._spend,
        )
        others = [one for one in self._kept if not one.is_of(unhealthy, cpu_slots, policy)]
        self._kept = [made, *others][:KEPT]
        return made

    def _spend(self, cost_s: float) -> None:
        if cost_s > SMALL_S:
            self._costs.append((self._now, cost_s))

    def _is_busy(self) -> bool:
        """Return True if forecasts have taken more of the last moments than they may."""
        while self._costs and not 0 <= self._now - self._costs[0][0] <= BUSY_AGE_S:
            self._costs.popleft()
        return sum(cost for _, cost in self._costs) > BUDGET * BUSY_AGE_S

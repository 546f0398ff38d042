"""Plans and forecasts that serve all readers, until the queue changes or they are a moment old."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from leptond.core.scheduling.forecast import Eta, Forecast
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

KEPT = 4
"""Forecasts that are kept: of the daemon's own policy, and of others that are asked for."""

MAX_ETAS = 64
"""Most single jobs whose start is kept."""


class Outlook:
    """What the planner makes of one snapshot, each part made when it is first asked for. `now` and `boot`:
    when the snapshot was taken, in UTC seconds and in those of CLOCK_BOOTTIME."""

    def __init__(
        self,
        *,
        now: float,
        boot: float,
        last_event: int,
        unhealthy: Mapping[str, str],
        cpu_slots: int,
        policy: Policy,
    ) -> None:
        self.boot = boot
        self.now = now
        self._of = (last_event, unhealthy, cpu_slots, policy)
        self._inputs: dict[int, PlanInput] = {}
        self._plans: dict[int, Plan] = {}
        self._starts: Mapping[int, Forecast] | None = None
        self._etas: dict[int | None, Mapping[int, Eta]] = {}

    def is_of(self, last_event: int, unhealthy: Mapping[str, str], cpu_slots: int, policy: Policy) -> bool:
        """Return True if it was made of a queue and a machine that are the same."""
        return self._of == (last_event, unhealthy, cpu_slots, policy)

    def inputs(self, db: Connection, window: int) -> PlanInput:
        """Return the planner's input with the first `window` jobs."""
        if window not in self._inputs:
            _, unhealthy, cpu_slots, policy = self._of
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
            self._inputs[window] = forecast.with_reports(db, named)
        return self._inputs[window]

    def plan(self, db: Connection, window: int) -> Plan:
        """Return the plan for the first `window` jobs."""
        if window not in self._plans:
            self._plans[window] = plan(self.inputs(db, window))
        return self._plans[window]

    def starts(self, db: Connection) -> Mapping[int, Forecast]:
        """Return the likely starts of the first jobs, by job id."""
        if self._starts is None:
            self._starts = forecast.starts(self.inputs(db, QUICK_WINDOW))
        return self._starts

    def etas(self, db: Connection, until: int | None = None) -> Mapping[int, Eta]:
        """Return starts with their uncertainty, by job id, as far as that of the job `until`."""
        for wanted in (None, until):
            if wanted in self._etas:
                return self._etas[wanted]
        if len(self._etas) >= MAX_ETAS:
            self._etas.clear()
        found = forecast.etas(self.inputs(db, WINDOW), until=until)
        self._etas[until] = found
        return found


class Forecasts:
    """The newest outlooks. Two threads that ask at the same time may each make one: neither waits for the
    other, because the scheduler reads on one of them."""

    def __init__(self) -> None:
        self._kept: list[Outlook] = []

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
        """Return the outlook on the snapshot `db`: one that was made for another reader, if nothing has
        happened since, unless it has to be made `anew`."""
        last = events.last_id(db)
        for one in self._kept:
            if (
                not anew
                and 0 <= boot - one.boot <= MAX_AGE_S
                and one.is_of(last, unhealthy, cpu_slots, policy)
            ):
                return one
        made = Outlook(
            now=now,
            boot=boot,
            last_event=last,
            unhealthy=dict(unhealthy),
            cpu_slots=cpu_slots,
            policy=policy,
        )
        same = [one for one in self._kept if not one.is_of(last, unhealthy, cpu_slots, policy)]
        self._kept = [made, *same][:KEPT]
        return made

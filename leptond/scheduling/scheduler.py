"""The loop that turns plans into starts. It sleeps until something has changed: a commit, a GPU, or the
end of a back-off; it does not poll."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.config import Settings
from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs.model import Attempt, Job
from leptond.core.scheduling import planner
from leptond.core.scheduling.standby import ended_well
from leptond.engines.base import End, Engine, Given
from leptond.scheduling.standby import Deck
from leptond.scheduling.supervisor import OBSTACLE_S, Supervisor
from leptond.store import Connection, Store, StoreUnavailable
from leptond.store.accounting import ledger
from leptond.store.planning import commit_plan, successors
from leptond.store.planning import snapshot as planning
from leptond.store.planning.job_cache import Known
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim

log = structlog.get_logger("leptond.scheduler")

LONGEST_SLEEP_S = 3600.0
NO_ROOM_S = 5.0
"""How soon to look again while the disk has no room for a start."""

TIMER_SLEEP_S = 60.0
"""Longest sleep while a back-off or a begin time runs: their clocks go on in a suspend, that of a sleep
does not."""

COMMIT_S = 1.0
"""How soon to look again after a commit that was under way, should it fail: else it wakes us itself."""

NOTE_S = 1.0
"""How long a change of what the queue is like for free GPUs waits for a claim to be written with."""


class Scheduler:
    """Decides with the pure planner on a snapshot, then claims and starts. `sick` tells which devices do
    not answer."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        engine: Engine,
        clock: Clock,
        settings: Settings,
        sick: Callable[[], Mapping[str, str]],
        deck: Deck,
        may_start: Callable[[], bool] = lambda: True,
        pass_times: DurationHistogram | None = None,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._engine = engine
        self._clock = clock
        self._policy = settings.policy()
        self._cpu_slots = settings.cpu_slots()
        self._sick = sick
        self._may_start = may_start
        self._deck = deck
        self._known = Known()
        self._view: _View | None = None
        self._outlook = successors.Outlook()
        self._outlook_moment: int | None = None
        self._named: dict[str, str] | None = None
        self._pass_times = pass_times if pass_times is not None else DurationHistogram(FAST_S)
        self._changed = asyncio.Event()
        self._woken: float | None = None
        self._startled = False
        self._looked: float | None = None
        self._idle_cause: tuple[IdleCause, str] | None = None
        self._unnoted: list[tuple[float, IdleCause, str]] = []
        store.on_change(self._committed)
        supervisor.successor = self.successor
        supervisor.coming = deck.coming
        deck.on_ready = self._changed.set

    def wake(self) -> None:
        """Something has changed that is not in the database: look again."""
        self._startled = True
        self._committed()

    def _committed(self) -> None:
        if self._woken is None:
            self._woken = self._clock.wall()
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._changed.clear()
            try:
                if loop.time() < due and self._seen_to():
                    self._woken = None
                    due = min(due, loop.time() + max(0.0, self._outlook.until - self._clock.wall()))
                elif self._woken is None and loop.time() < due:  # somebody has arrived on deck
                    wait_s = await self._rearrange()
                    due = min(due, loop.time() + wait_s)
                if self._woken is not None or loop.time() >= due:
                    began = time.perf_counter()
                    wait_s = await self.turn()
                    due = loop.time() + wait_s
                    self._pass_times.observe(time.perf_counter() - began)
            except StoreUnavailable as error:
                log.error("cannot schedule now", error=str(error))
                due = loop.time() + 1.0
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            except TimeoutError:
                due = loop.time()

    def _seen_to(self) -> bool:
        """Whether what has happened was a hand-over, whose transaction has seen to everything (see
        successors.py), and enough stand on deck for those that follow."""
        moment = self._store.version
        return (
            not self._startled
            and moment is not None
            and moment == self._outlook_moment
            and self._outlook.whole
            and self._outlook.sick == dict(self._sick())
            and 2 * len(self._deck.jobs()) > self._deck.size
        )

    async def turn(self) -> float:
        """One look at the queue: stops are delivered, then what can start is started. How long the next
        look can wait, in seconds, if nothing changes."""
        woken, self._woken = self._woken, None
        self._startled = False
        self._view = None
        moment = self._store.version
        ready = self._deck.ready()
        named = self._outlook if moment is not None and moment == self._outlook_moment else None
        snapshot = await self._store.read(self._look, self._deck.jobs(), ready, named)
        self._note(snapshot, woken)
        for attempt_id, reason, grace_s in snapshot.stops:
            attempt = await self._store.read(attempts.get, attempt_id)
            self._supervisor.stop(attempt_id, attempt, reason, grace_s)
        decided = snapshot.decided
        if decided.plan.starts:
            if not self._may_start():
                return NO_ROOM_S
            if await self._supervisor.obstacle():
                return OBSTACLE_S
        if not decided.empty:
            failpoints.fp("before_claim")
            # durable first; a stop is delivered by the next look, which this commit wakes
            self._deck.expect(snapshot.starting)
            await self._start(partial(commit_plan.carry_out, decided=decided), woken)
        elif moment is not None:
            self._view = _View(moment=moment, snapshot=snapshot)
        self._deck.arrange(snapshot.wanted(), snapshot.jobs.values())
        if moment is not None:
            await self._name_successors(snapshot.outlook, moment)
        self._looked = snapshot.at
        sleep_s = (
            min(TIMER_SLEEP_S, snapshot.next_wake) if snapshot.next_wake is not None else LONGEST_SLEEP_S
        )
        if decided.plan.wake_at is not None:
            sleep_s = min(sleep_s, TIMER_SLEEP_S, max(0.01, decided.plan.wake_at - snapshot.at))
        if self._unnoted:
            if self._clock.wall() - self._unnoted[0][0] >= NOTE_S:
                await self.write_notes()
            sleep_s = min(sleep_s, NOTE_S)
        return sleep_s

    async def _rearrange(self) -> float:
        """Somebody has arrived on deck, and nothing else has happened: what the last look saw still holds.
        How long the next one can wait, in seconds, where that is less than it was."""
        view, moment = self._view, self._store.version
        if moment is None:
            return COMMIT_S
        if view is None or view.moment != moment:
            return 0.0
        seen, ready = view.snapshot, self._deck.ready()
        self._deck.arrange(seen.wanted(), seen.jobs.values())
        named = self._outlook if self._outlook_moment == view.moment else seen.outlook
        if not _all_named(named, seen.inputs, ready):
            inputs = msgspec.structs.replace(seen.inputs, now=self._clock.wall())
            pairs = await self._store.read(successors.plan, inputs, ready)
            outlook = msgspec.structs.replace(
                seen.outlook, pairs={one.after: one for one in successors.as_they_are(pairs, seen.jobs)}
            )
            await self._name_successors(outlook, view.moment)
        return math.inf

    async def _start(self, change: Callable[..., list[Claim]], woken: float | None) -> None:
        """Carries a change out and starts what it claimed."""
        next_up = _NextUp(self, woken)
        claims: list[Claim] | None = None
        try:
            claims = await self._store.write(lambda db: change(db, context=next_up.context))
            failpoints.fp("after_claim")
            for claim in claims:
                self._supervisor.start(claim)
        finally:
            next_up.done(claims)

    async def _name_successors(self, outlook: successors.Outlook, moment: int) -> None:
        """Writes down who takes whose GPUs. It holds as long as nothing else changes."""
        if outlook.names != self._named:
            await self._store.write(successors.name, list(outlook.pairs.values()), wakes_scheduler=False)
        self._line_up(moment, outlook)

    def _line_up(self, moment: int, outlook: successors.Outlook) -> None:
        self._outlook, self._outlook_moment = outlook, moment
        self._named = outlook.names

    def successor(self, attempt: Attempt, end: End) -> _NextUp | None:
        """Who comes next when an attempt ends; None while nothing may start. Whose turn it is for certain is
        told to go at once."""
        if not self._may_start() or self._supervisor.hindered:
            return None
        pair = self._outlook.pairs.get(attempt.id)
        if (
            pair is None
            or end.record is None
            or not ended_well(end.record)
            or self._outlook_moment != self._store.version
            or self._outlook.until <= self._clock.wall()
            or self._outlook.sick != dict(self._sick())
            or self._deck.ready().get(pair.ready.job.id) != pair.ready
        ):
            return _NextUp(self, None)
        next_up = _NextUp(self, None, pair)
        context = next_up.context
        told = Given(gpus=pair.gpus, claimed_at=context.now, claimed_boot=context.boot)
        failpoints.fp("before_early_go")
        self._engine.go(pair.ready.attempt_id, told)
        failpoints.fp("after_early_go")
        return next_up

    def _note(self, snapshot: _Snapshot, woken: float | None) -> None:
        """Keeps in mind how the queue is for GPUs that stay free, if that has changed: since what woke us,
        or since the GPUs came free."""
        if snapshot.decided.idle_cause is None or snapshot.decided.idle_cause == (
            self._idle_cause or snapshot.noted
        ):
            return
        since = min(woken, snapshot.at) if woken is not None else snapshot.at
        if self._looked is not None and snapshot.released is not None and snapshot.released > self._looked:
            since = min(since, snapshot.released)
        self._idle_cause = snapshot.decided.idle_cause
        self._unnoted.append((since, *self._idle_cause))

    async def write_notes(self) -> None:
        """Stores what has been kept in mind for the ledger."""
        notes, self._unnoted = tuple(self._unnoted), []
        if notes:
            await self._store.write(ledger.note_idle_causes, notes, wakes_scheduler=False)

    def _look(
        self,
        db: Connection,
        on_deck: Sequence[int],
        ready: Mapping[int, commit_plan.Ready],
        named: successors.Outlook | None,
    ) -> _Snapshot:
        """`named`: the successors, if they have been named since the queue last changed."""
        now, boot = self._clock.wall(), self._clock.boot()
        sick, cpu_slots, policy = dict(self._sick()), self._cpu_slots, self._policy
        inputs = planning.plan_machine(db, now=now, unhealthy=sick, cpu_slots=cpu_slots, policy=policy)
        decided = planning.decide_on(db, inputs, boot=boot)
        starting = {start.id for start in decided.plan.starts}
        line: list[int] = []
        pairs: list[successors.Pair] = []
        if self._deck.size and inputs.running:
            inputs = planning.first_waiting(db, inputs, boot=boot)
            line = planning.next_in_line(inputs, places=self._deck.size + len(starting))
            line = [job_id for job_id in line if job_id not in starting]
            if not decided.empty:
                pass  # it is about to change
            elif named is not None and named.sick == sick and _all_named(named, inputs, ready):
                pairs = list(named.pairs.values())
            else:
                pairs = successors.plan(db, inputs, ready)
        jobs = self._known.pending(db, {*line, *on_deck, *starting})
        wake_s = planning.next_wake(db, now=now, boot=boot)
        return _Snapshot(
            at=now,
            decided=decided,
            starting=[jobs[job_id] for job_id in starting if job_id in jobs],
            inputs=inputs,
            line=line,
            jobs=jobs,
            outlook=successors.Outlook(
                pairs={one.after: one for one in successors.as_they_are(pairs, jobs)},
                until=min(now + (math.inf if wake_s is None else wake_s), decided.plan.wake_at or math.inf),
                sick=sick,
            ),
            stops=planning.stops(db),
            next_wake=wake_s,
            noted=ledger.newest_idle_cause(db),
            released=ledger.newest_release(db),
        )


def _all_named(
    outlook: successors.Outlook, inputs: planner.PlanInput, ready: Mapping[int, commit_plan.Ready]
) -> bool:
    """Whether there is a successor on deck for everybody who can have one: then others who have arrived there
    change nothing."""
    alone = planning.sole_holders(inputs.running[: successors.MOST])
    return len(outlook.pairs) == len(alone) and all(
        ready.get(pair.ready.job.id) == pair.ready for pair in outlook.pairs.values()
    )


class _NextUp:
    """The starts of one transaction (:class:`leptond.scheduling.supervisor.Successor`): while it is under
    way nobody leaves the deck."""

    def __init__(
        self, scheduler: Scheduler, woken: float | None, pair: successors.Pair | None = None
    ) -> None:
        self._scheduler = scheduler
        self._pair = pair
        self.gone = pair is not None
        clock = scheduler._clock
        self._notes = tuple(scheduler._unnoted)
        self._found: tuple[int, successors.Outlook] | None = None
        self._crowded = scheduler._store.version is None  # other changes are under way
        self.context = commit_plan.Context(
            now=clock.wall(),
            boot=clock.boot(),
            boot_id=clock.boot_id,
            ready=scheduler._deck.ready(),
            new_id=lambda: secrets.token_hex(16),
            turn=attempts.Turn(looked=scheduler._looked, woken=woken, idle_cause=self._notes),
        )
        scheduler._deck.hold()

    def claim(self, db: Connection) -> list[Claim]:
        """Claims for what the transaction has freed."""
        one, sick = self._scheduler, dict(self._scheduler._sick())
        if self._pair is not None:
            claims = [successors.claim(db, self._pair, self.context)]
        else:
            claims = commit_plan.follow_up(
                db, self.context, unhealthy=sick, cpu_slots=one._cpu_slots, policy=one._policy
            )
        if self._crowded or not planning.any_held(db):
            return claims  # what is named now would hold for no moment, or nobody hands GPUs over
        look = partial(
            successors.look_ahead,
            db,
            self.context,
            claims,
            unhealthy=sick,
            cpu_slots=one._cpu_slots,
            policy=one._policy,
        )
        outlook = commit_plan.apart(db, look)
        self._found = (one._store.next_version, outlook) if outlook is not None else None
        return claims

    def done(self, claims: Sequence[Claim] | None) -> None:
        """The transaction is over; None: it has failed."""
        scheduler = self._scheduler
        scheduler._deck.taken({claim.attempt.id for claim in claims or ()})
        if claims:
            del scheduler._unnoted[: len(self._notes)]
        if claims is not None and self._found is not None:
            scheduler._line_up(*self._found)


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one look saw. `line`: who is likely to start next (ids); `jobs`: those, those who start, and who
    stood on deck, as far as they wait."""

    at: float
    decided: planning.Decided
    starting: Sequence[Job]
    inputs: planner.PlanInput
    line: Sequence[int]
    jobs: Mapping[int, Job]
    outlook: successors.Outlook
    noted: tuple[IdleCause, str]
    released: float | None
    stops: Sequence[tuple[str, str, float]]
    next_wake: float | None

    def wanted(self) -> list[Job]:
        """Who should stand on deck."""
        return [self.jobs[job_id] for job_id in self.line if job_id in self.jobs]


class _View(NamedTuple):
    """What a look saw that found nothing to do, at this moment of the store."""

    moment: int
    snapshot: _Snapshot

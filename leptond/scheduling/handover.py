"""The hand-over: from the end of a job to the start of the next, within one commit.

The way, from top to bottom: a scheduling pass chooses the successors of the running attempts (scheduler.py),
and :meth:`HandOver.follow` gives them to their shims (successions.py), which then start them as slots come
free. When an attempt has ended, its supervisor asks here what has started in its place
(:meth:`HandOver.taken_over`). The transaction that records the end then books that start; where there is
none, it claims for what it has freed (:meth:`ClaimBatch.claim`). Once it is durable, the supervisor follows
or starts what was claimed (supervisor.py), and the scheduler, woken by the commit, may skip its pass
(:func:`leptond.core.scheduling.handover.next_step`)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from leptond.base.clock import Clock
from leptond.config import Settings
from leptond.core.jobs.model import Attempt
from leptond.core.outcome.evidence import End
from leptond.core.scheduling.handover import NO_OUTLOOK, Outlook
from leptond.engines.base import Taken
from leptond.scheduling.idle_notes import IdleNotes
from leptond.scheduling.standby import Standby
from leptond.scheduling.start_permit import StartPermit
from leptond.scheduling.successions import Entry, Successions
from leptond.store import Connection, Store
from leptond.store.planning import commit_plan, snapshot, successors
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim


class Moment(NamedTuple):
    """What a plan rests on: changes by others than ends, and ends that may change a plan."""

    others: int
    unplanned: int


class HandOver:
    """Decides about the starts that go with an end. `unhealthy` gives the devices that do not answer, with
    the reason. Hands nothing over before :meth:`open`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        unhealthy: Callable[[], Mapping[str, str]],
        standby: Standby,
        successions: Successions,
        permit: StartPermit,
        notes: IdleNotes,
    ) -> None:
        self.store = store
        self.clock = clock
        self.standby = standby
        self.successions = successions
        self.notes = notes
        self.policy = settings.policy()
        self.cpu_slots = settings.cpu_slots()
        self._unhealthy = unhealthy
        self._permit = permit
        self._open = False
        self._unplanned = 0
        self._outlook: Outlook = NO_OUTLOOK
        self._freed = 0
        self._freeing = 0
        self._followed: tuple[Moment, int] | None = None

    def open(self) -> None:
        """From now on ends are followed by starts: the database agrees with the machine."""
        self._open = True

    def unhealthy(self) -> dict[str, str]:
        """The devices that do not answer now, with the reason."""
        return dict(self._unhealthy())

    def moment(self) -> Moment:
        """What a plan that is made now will rest on."""
        return Moment(self.store.others, self._unplanned)

    @property
    def freed(self) -> int:
        """A number that changes with every end that leaves a slot to a plan."""
        return self._freed

    async def follow(self, outlook: Outlook, moment: Moment, freed: int) -> None:
        """Give an outlook that was made at `moment`, when so much was `freed`, to the shims."""

        def is_current() -> bool:
            return self._open and self.moment() == moment and self._permit.likely()

        self._followed = None
        if not (self._open and self._permit.likely()):
            outlook = NO_OUTLOOK
        await self.successions.follow(outlook, is_current)
        if is_current():
            self._outlook, self._followed = outlook, (moment, freed)

    def is_at_rest(self) -> bool:
        """Return True if the last outlook still holds, though attempts may have taken over as it said, and
        leaves enough for a while."""
        now = self.clock.wall()
        return (
            self._followed is not None
            and not self._freeing
            and self._followed == (self.moment(), self._freed)
            and self.successions.are_given
            and self.successions.is_well_filled
            and all(now < line.until for line in self._outlook.lines)
            and self._outlook.unhealthy == self.unhealthy()
        )

    async def taken_over(self, attempt: Attempt, end: End) -> Entry | None:
        """Return what has started on the slot of an ended attempt without the daemon; None: nothing."""
        return await self.successions.taken_over(attempt, end)

    def batch(self, woken_at: float | None) -> ClaimBatch:
        """Return the claims of a scheduling pass that was woken at `woken_at` (wall time)."""
        return ClaimBatch(self, woken_at)

    def at_end(self, entry: Entry | None) -> ClaimBatch | None:
        """Return the claims that go with the end of an attempt whose slot `entry` has taken; None while
        nothing may start."""
        if entry is None and not (self._open and self._permit.likely()):
            return None
        return ClaimBatch(self, None, entry)

    def note_unplanned(self) -> None:
        """An end has changed more than the slots that are free: what was planned before it is out of date."""
        self._unplanned += 1

    @contextlib.contextmanager
    def freeing(self) -> Iterator[None]:
        """An end that leaves a slot to a plan is recorded in the block. A pass may read its commit before the
        block is over, and its commit wakes the scheduler before that too: no outlook from before it holds."""
        self._freed += 1
        self._freeing += 1
        try:
            yield
        finally:
            self._freed += 1
            self._freeing -= 1


class ClaimBatch:
    """The claims of one transaction, made in it by :meth:`claim` or :meth:`carry_out`; :meth:`done` ends
    them. Until then no prepared attempt is discarded. `entry`: what has started already, so that the
    transaction must succeed."""

    def __init__(self, handover: HandOver, woken_at: float | None, entry: Entry | None = None) -> None:
        self._handover = handover
        self._entry = entry
        self._gone = handover.successions.begin_unnaming()
        self._notes = handover.notes.unwritten()
        clock = handover.clock
        taken = self.taken
        self.context = commit_plan.ClaimContext(
            now=clock.wall() if taken is None else taken.claimed_at,
            boot=clock.boot() if taken is None else taken.claimed_boot,
            boot_id=clock.boot_id,
            prepared=handover.standby.prepared(),
            new_id=lambda: secrets.token_hex(16),
            pass_times=attempts.PassTimes(
                passed_at=handover.notes.passed_at, woken_at=woken_at, idle_causes=self._notes
            ),
        )
        handover.standby.lock()

    @property
    def taken(self) -> Taken | None:
        """How the next attempt has started; None: it has not."""
        return self._entry.taken if self._entry is not None else None

    def begin(self, db: Connection) -> None:
        """Remove the names of those that will not start, so that their jobs are free for everything."""
        successors.unname(db, self._gone)

    def claim(self, db: Connection) -> list[Claim]:
        """Claim for what the transaction has freed. Raises OutOfStep where the database does not allow the
        claim of a successor that has started."""
        handover = self._handover
        entry, taken = self._entry, self.taken
        if entry is None or taken is None:
            return commit_plan.claim_freed(
                db,
                self.context,
                unhealthy=handover.unhealthy(),
                cpu_slots=handover.cpu_slots,
                policy=handover.policy,
            )
        prepared = entry.successor.prepared
        assert prepared.shim is not None
        named = successors.NamedSuccessor(
            job_id=prepared.job.id,
            number=prepared.job.attempt + 1,
            attempt_id=prepared.attempt_id,
            shim=prepared.shim,
        )
        successors.count_start(db, entry.successor, handover.policy, now=self.context.now)
        return [successors.claim(db, named, taken.gpus, self.context)]

    def carry_out(self, db: Connection, decided: snapshot.Decided) -> list[Claim]:
        """Carry out what a pass has decided."""
        self.begin(db)
        return commit_plan.carry_out(db, decided, self.context)

    def done(self, claims: Sequence[Claim] | None) -> None:
        """The transaction is over and has made `claims`; None: it has failed."""
        self._handover.standby.unlock({claim.attempt.id for claim in claims or ()})
        self._handover.successions.end_unnaming(self._gone, durable=claims is not None)
        if claims:
            self._handover.notes.written(len(self._notes))
        if claims is not None and self._entry is not None:
            self._handover.successions.booked(self._entry)

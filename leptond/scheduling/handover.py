"""The hand-over: from the end of a job to the start of the next, within one commit.

The way, from top to bottom: a scheduling pass names the successors of the running attempts (scheduler.py,
:meth:`HandOver.name`). One of those ends; its supervisor asks here for what comes next
(:meth:`HandOver.at_end`): if the outlook holds, the gate of the successor is opened at once. The transaction
that records the end then claims for what it has freed and names the successors anew
(:meth:`ClaimBatch.claim`). Once it is durable, the supervisor follows or starts what was claimed
(supervisor.py), and the scheduler, woken by the commit, may skip its pass
(:func:`leptond.core.scheduling.handover.next_step`)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.config import Settings
from leptond.core.jobs.model import Attempt
from leptond.core.outcome.evidence import End
from leptond.core.scheduling.handover import NO_OUTLOOK, Outlook, Successor
from leptond.core.scheduling.standby import ended_well
from leptond.engines.base import Engine, Given
from leptond.scheduling.idle_notes import IdleNotes
from leptond.scheduling.standby import Standby
from leptond.scheduling.start_permit import StartPermit
from leptond.store import Connection, Store
from leptond.store.planning import commit_plan, snapshot, successors
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim


class HandOver:
    """Owns the outlook, the early release of a successor, and the claims of every transaction. `unhealthy`
    gives the devices that do not answer, with the reason. Hands nothing over before :meth:`open`."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        clock: Clock,
        settings: Settings,
        unhealthy: Callable[[], Mapping[str, str]],
        standby: Standby,
        permit: StartPermit,
        notes: IdleNotes,
    ) -> None:
        self.store = store
        self.clock = clock
        self.standby = standby
        self.notes = notes
        self.policy = settings.policy()
        self.cpu_slots = settings.cpu_slots()
        self._engine = engine
        self._unhealthy = unhealthy
        self._permit = permit
        self._open = False
        self._named: dict[str, str] | None = None
        self.outlook: Outlook = NO_OUTLOOK

    def open(self) -> None:
        """From now on ends are followed by starts: the database agrees with the machine."""
        self._open = True

    def unhealthy(self) -> dict[str, str]:
        """The devices that do not answer now, with the reason."""
        return dict(self._unhealthy())

    def outlook_holds(self) -> bool:
        """Return True if the outlook still holds now."""
        return self.outlook.holds(self.store.version, self.clock.wall(), self.unhealthy())

    async def name(self, outlook: Outlook) -> None:
        """Take on an outlook and name its successors on disk, where they are not yet. It holds as long as
        nothing else changes."""
        if outlook.attempt_ids != self._named:
            successors_now = list(outlook.successors.values())
            await self.store.write(successors.replace_all, successors_now, wakes_scheduler=False)
        self.take(outlook)

    def take(self, outlook: Outlook) -> None:
        """Take on an outlook whose successors are named on disk."""
        self.outlook = outlook
        self._named = outlook.attempt_ids

    def batch(self, woken_at: float | None) -> ClaimBatch:
        """Return the claims of a scheduling pass that was woken at `woken_at` (wall time)."""
        return ClaimBatch(self, woken_at)

    def at_end(self, attempt: Attempt, end: End) -> ClaimBatch | None:
        """Return the claims that go with the end of an attempt; None while nothing may start. If its
        successor is certain, the gate of that is opened at once."""
        if not self._open or not self._permit.likely():
            return None
        successor = self.outlook.successors.get(attempt.id)
        if successor is None or not self._is_certain(successor, end):
            return ClaimBatch(self, None)
        batch = ClaimBatch(self, None, successor)
        given = Given(gpus=successor.gpus, claimed_at=batch.context.now, claimed_boot=batch.context.boot)
        failpoints.fp("before_early_go")
        self._engine.go(successor.prepared.attempt_id, given)
        failpoints.fp("after_early_go")
        return batch

    def _is_certain(self, successor: Successor, end: End) -> bool:
        """Return True if nothing about the end has to be judged first, and nothing else can come between."""
        prepared = successor.prepared
        return (
            end.record is not None
            and ended_well(end.record)
            and self.outlook_holds()
            and self.standby.prepared().get(prepared.job.id) == prepared
        )


class ClaimBatch:
    """The claims of one transaction, made in it by :meth:`claim` or with its `context`; :meth:`done` ends
    them. Until then no prepared attempt is discarded. `released`: the gate of the successor is open already,
    so that the transaction must succeed."""

    def __init__(
        self, handover: HandOver, woken_at: float | None, successor: Successor | None = None
    ) -> None:
        self._handover = handover
        self._successor = successor
        self.released = successor is not None
        self._notes = handover.notes.unwritten()
        self._outlook: Outlook | None = None
        # what is named in this transaction would hold for no moment while other changes are under way
        self._replans = handover.store.version is not None
        clock = handover.clock
        self.context = commit_plan.ClaimContext(
            now=clock.wall(),
            boot=clock.boot(),
            boot_id=clock.boot_id,
            prepared=handover.standby.prepared(),
            new_id=lambda: secrets.token_hex(16),
            pass_times=attempts.PassTimes(
                passed_at=handover.notes.passed_at, woken_at=woken_at, idle_causes=self._notes
            ),
        )
        handover.standby.lock()

    def claim(self, db: Connection) -> list[Claim]:
        """Claim for what the transaction has freed. Raises OutOfStep where the database does not allow the
        claim of a successor whose gate is open."""
        handover = self._handover
        unhealthy = handover.unhealthy()
        if self._successor is not None:
            claims = [successors.claim(db, self._successor, self.context)]
        else:
            claims = commit_plan.claim_freed(
                db,
                self.context,
                unhealthy=unhealthy,
                cpu_slots=handover.cpu_slots,
                policy=handover.policy,
            )
        if self._replans and snapshot.any_held(db):
            look_ahead = partial(
                successors.look_ahead,
                db,
                self.context,
                claims,
                version=handover.store.next_version,
                unhealthy=unhealthy,
                cpu_slots=handover.cpu_slots,
                policy=handover.policy,
            )
            self._outlook = commit_plan.in_savepoint(db, look_ahead)
        return claims

    def done(self, claims: Sequence[Claim] | None) -> None:
        """The transaction is over and has made `claims`; None: it has failed."""
        self._handover.standby.unlock({claim.attempt.id for claim in claims or ()})
        if claims:
            self._handover.notes.written(len(self._notes))
        if claims is not None and self._outlook is not None:
            self._handover.take(self._outlook)

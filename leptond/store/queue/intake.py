"""Submits in the transaction that stores them: the checks that have to hold at that moment, and the rows.

Submits of many callers that wait for the same commit are stored together: what the checks read is read once,
and counted on from one to the next, and the rows of all are written at the end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from leptond.base.errors import Refused, TooMany
from leptond.core.admission.admission import Admitted
from leptond.core.jobs.model import DEFAULT_QUEUE
from leptond.core.scheduling.fair_share import Limits
from leptond.store.accounting import budgets
from leptond.store.database.conditions import IS_PENDING
from leptond.store.queue import fair_share, idempotency, queues
from leptond.store.queue.submit import Insertion, Stored, Together, remembered


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An Idempotency-Key and the SHA-256 of the body that it came with."""

    key: str
    body_sha256: str


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """A submit that is ready to be stored: the jobs of all its specs, or none. `beside` stores, in the same
    transaction, what belongs to them; `warnings`, where given, are those of each spec, which belong to the
    answer. `uid`: that of the account `user`, where it is known."""

    admitted: Sequence[Admitted]
    user: str
    uid: int | None = None
    now: float
    max_pending: int
    key: Key | None = None
    caps: Limits = Limits()
    together: Together | None = None
    beside: Callable[[sqlite3.Connection, list[Stored]], None] | None = None
    warnings: Sequence[list[str]] = ()

    @property
    def is_plain(self) -> bool:
        """True for one job that waits for no other: once the checks are passed, nothing refuses it."""
        if len(self.admitted) != 1 or self.beside is not None or self.together is not None:
            return False
        (one,) = self.admitted
        spec = one.spec
        return one.indices is None and not (spec.after or spec.after_any or spec.after_fail)


Accepted = tuple[list[Stored], bool]
"""The jobs of a submit, and whether they are new (False: the same Idempotency-Key brought them before)."""


def submit(db: sqlite3.Connection, one: Submit) -> Accepted:
    """Store a submit. Raises Conflict, Invalid, TooMany, OverBudget; then nothing may stay."""
    intake = _Intake(db)
    accepted = intake.submit(one)
    intake.flush()
    return accepted


def submit_each(
    db: sqlite3.Connection, several: Sequence[Submit]
) -> list[tuple[Accepted | None, Exception | None]]:
    """Store submits that are plain, each for itself: those that are refused leave nothing. Any other error
    is raised, and then nothing of all of them may stay."""
    intake = _Intake(db)
    outcomes: list[tuple[Accepted | None, Exception | None]] = []
    for one in several:
        try:
            outcomes.append((intake.submit(one), None))
        except Refused as refusal:
            outcomes.append((None, refusal))
    intake.flush()
    return outcomes


class _Intake:
    """What one transaction reads for its submits, and counts on from one to the next."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._insertion: Insertion | None = None
        self._pending: int | None = None
        self._waiting: dict[tuple[str, str], int] = {}
        self._open: set[str] = set()
        self._caps: tuple[Limits, Limits] | None = None
        self._has_budgets = budgets.exist(db)

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._insertion is not None:
            self._insertion.flush()

    def submit(self, one: Submit) -> Accepted:
        """Check a submit and add its jobs. Raises Conflict, Invalid, TooMany, OverBudget."""
        db, key = self._db, one.key
        if key is not None:
            answer = idempotency.recall(db, one.user, key.key, key.body_sha256)
            if answer is not None:
                return remembered(answer), False
        asked = sum(each.count for each in one.admitted)
        projects = Counter[str]()
        for each in one.admitted:
            if each.spec.project is not None:
                projects[each.spec.project] += each.count
        self._check(one, asked, projects)
        if self._insertion is None:
            self._insertion = Insertion(db)
        stored = self._insertion.add(
            one.admitted, user=one.user, uid=one.uid, now=one.now, together=one.together
        )
        self._count(one.user, asked, projects)
        if any(one.warnings):
            pairs = zip(stored, one.warnings, strict=True)
            stored = [msgspec.structs.replace(each, warnings=words) for each, words in pairs]
        if one.beside is not None:
            self.flush()
            one.beside(db, stored)
        if key is not None:
            text = msgspec.json.encode(stored).decode()
            idempotency.remember(db, one.user, key.key, key.body_sha256, text, one.now)
        return stored, True

    def _check(self, one: Submit, asked: int, projects: dict[str, int]) -> None:
        """Check what all submits share: the queue's size, its state, caps and budgets."""
        db = self._db
        if self._pending is None:
            self._pending = db.execute(f"SELECT n FROM job_counts WHERE {IS_PENDING}").fetchone()[0]
        if self._pending + asked > one.max_pending:
            raise TooMany(
                f"the queue holds {self._pending} jobs of at most {one.max_pending}",
                hint="wait until some have run, or raise queue.max_pending",
                headers={"Retry-After": "60"},
            )
        for name in {each.spec.queue or DEFAULT_QUEUE for each in one.admitted} - self._open:
            queues.find(db, name).must_be_open()
            self._open.add(name)
        caps = self._limits(one.caps)
        fair_share.check_caps(caps, self._waiting_of, user=one.user, asked=asked, projects=projects)
        if self._has_budgets:
            self.flush()  # budgets count what stands in the table
            budgets.check(db, one.admitted, user=one.user, now=one.now)

    def _limits(self, usual: Limits) -> Limits:
        """Return the caps that count, over those of the configuration."""
        if self._caps is None or self._caps[0] != usual:
            self._caps = (usual, fair_share.limits(self._db, usual))
        return self._caps[1]

    def _waiting_of(self, kind: str, name: str) -> int:
        if (kind, name) not in self._waiting:
            self._waiting[kind, name] = queues.pending(self._db, kind, name)
        return self._waiting[kind, name]

    def _count(self, user: str, asked: int, projects: dict[str, int]) -> None:
        """Count jobs that are not in the table yet."""
        if self._pending is not None:
            self._pending += asked
        for kind, name, count in (("user", user, asked), *(("project", *each) for each in projects.items())):
            if (kind, name) in self._waiting:
                self._waiting[kind, name] += count

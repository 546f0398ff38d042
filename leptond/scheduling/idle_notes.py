"""The reasons for which GPUs stay free, noted for the ledger whenever they change. A note is written with the
next claim, and by itself only if none comes soon."""

from __future__ import annotations

from leptond.base.clock import Clock
from leptond.core.accounting.ledger import IdleCause
from leptond.store import Store
from leptond.store.accounting import ledger

NOTE_S = 1.0
"""Longest wait of a note for a claim to be written with."""

Note = tuple[float, IdleCause, str]
"""Since when (wall time), why GPUs stay free, and a detail of it."""


class IdleNotes:
    """The notes that are not in the ledger yet; `passed_at` is the time of the last scheduling pass (wall
    time; None: none since the daemon's start)."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._newest: tuple[IdleCause, str] | None = None
        self._unwritten: list[Note] = []
        self.passed_at: float | None = None

    def passed(self, at: float) -> None:
        """Note that a scheduling pass was made at `at` (wall time)."""
        self.passed_at = at

    def note(
        self,
        cause: tuple[IdleCause, str] | None,
        *,
        stored: tuple[IdleCause, str],
        at: float,
        woken_at: float | None,
        released_at: float | None,
    ) -> None:
        """Note `cause` (None: no GPU stays free) if it is news; `stored` is what the ledger has. It is so
        since `woken_at`, when what caused the pass at `at` was committed, or since the GPUs came free
        (`released_at`)."""
        if cause is None or cause == (self._newest or stored):
            return
        since = min(woken_at, at) if woken_at is not None else at
        if self.passed_at is not None and released_at is not None and released_at > self.passed_at:
            since = min(since, released_at)
        self._newest = cause
        self._unwritten.append((since, *cause))

    def unwritten(self) -> tuple[Note, ...]:
        """Return the notes for a transaction that may write them."""
        return tuple(self._unwritten)

    def written(self, count: int) -> None:
        """The first `count` notes are durable."""
        del self._unwritten[:count]

    async def write_due(self) -> float | None:
        """Write the notes that have waited long enough. Returns how soon to ask again, in seconds; None: no
        note waits."""
        if not self._unwritten:
            return None
        if self._clock.wall() - self._unwritten[0][0] >= NOTE_S:
            await self.write()
        return NOTE_S

    async def write(self) -> None:
        """Write all notes now."""
        notes, self._unwritten = self.unwritten(), []
        if notes:
            await self._store.write(ledger.note_idle_causes, notes, wakes_scheduler=False)

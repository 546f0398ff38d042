"""Successions: which prepared attempts may start without the daemon, and what has become of them.

A scheduling pass makes an outlook, and :meth:`Successions.follow` gives it to the shims: what the last
outlook has given out and this one does not agree with is taken back first, and nothing else is done with
those slots before the shims have answered. An attempt that has started so is found here by its supervisor
when the one before it has ended (:meth:`Successions.taken_over`), in order, and booked together with that
end.

The rows of the table ``successors`` are written before a shim is told, and removed after it has answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.core.jobs.model import Attempt, LeasedGpu
from leptond.core.outcome.evidence import End
from leptond.core.scheduling.handover import Line, Outlook, Successor
from leptond.engines.base import Engine, Taken
from leptond.scheduling.standby import Standby
from leptond.store import Store, StoreUnavailable
from leptond.store.planning import successors

TAKE_S = 5.0
"""Longest time from the end of an attempt that has handed its slot on to the start of the next. A succession
in which that takes longer is given up."""

ORDER_S = 60.0
"""Longest time that the booking of a start waits for those of earlier starts."""

BOOK_S = 5.0
"""Longest time that a change of a job waits for the booking of a start."""


class Entry:
    """An attempt in a succession. `settled`: its start is on its way to the disk, or it has not started and
    will not; starts are booked in the order in which they happen. `taken`: how it started."""

    def __init__(self, successor: Successor, before: Entry | None) -> None:
        self.successor = successor
        self.before = before
        self.settled = asyncio.Event()
        self.over = asyncio.Event()
        self.taken: Taken | None = None
        self.is_asked_to_leave = False

    @property
    def attempt_id(self) -> str:
        """The id of the attempt."""
        return self.successor.prepared.attempt_id

    def end(self, taken: Taken | None) -> None:
        """It has started, or (None) has not and will not without GO."""
        self.taken = taken
        if taken is None:
            self.settle()
        self.over.set()

    def ask_to_leave(self) -> None:
        """It is asked to leave, and nothing may wait behind it any more."""
        self.is_asked_to_leave = True

    def settle(self) -> None:
        """Let those after it be booked."""
        self.settled.set()
        self.before = None


class Succession:
    """A line that was given out. `holders`: the running attempts that hand their slots on, `waiting`: those
    that have not started, as far as is known. `given`: how many waited after the last change; `withdrawals`:
    how often some of them were asked to leave."""

    def __init__(self, line: Line) -> None:
        self.name = secrets.token_hex(8)
        self.slots = {_key(gpus): list(gpus) for gpus in line.slots.values()}
        self.alike = line.alike
        self.until = line.until
        self.holders: set[str] = set()
        self.waiting: dict[str, Entry] = {}
        self.last: Entry | None = None
        self.given = 0
        self.withdrawals = 0
        self.ended = asyncio.Event()
        self.taken_from: dict[str, asyncio.Event] = {}

    def add(self, successor: Successor) -> Entry:
        """Let an attempt wait behind the others."""
        entry = self.last = self.waiting[successor.prepared.attempt_id] = Entry(successor, self.last)
        self.given = len(self.waiting)
        return entry

    def leaving(self, first: int) -> list[Entry]:
        """Return those that wait, from the `first` on, and which are to leave from now on."""
        entries = list(self.waiting.values())[first:]
        self.withdrawals += bool(entries)
        for entry in entries:
            entry.ask_to_leave()
        return entries

    def agrees(self, line: Line, now: float) -> bool:
        """Return True if a line of a new outlook is for the same slots, and for no shorter time."""
        same = {_key(gpus) for gpus in line.slots.values()} == self.slots.keys()
        return (
            same
            and line.alike == self.alike
            and line.until >= self.until
            and (now < self.until or line.until == self.until)
        )


def _key(gpus: Sequence[LeasedGpu]) -> str:
    return ",".join(gpu.uuid for gpu in gpus)


class Successions:
    """All successions. The tasks that wait for what becomes of successors run in `group`; `changed` is called
    when there may be successors to be given out again."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        clock: Clock,
        standby: Standby,
        group: asyncio.TaskGroup,
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._standby = standby
        self._group = group
        self._changed = changed
        self._open: list[Succession] = []
        self._running: dict[str, str] = {}
        self._of: dict[str, Succession] = {}
        self._takers: dict[str, Entry] = {}
        self._unbooked: dict[str, asyncio.Event] = {}
        self._gone: set[str] = set()
        self._unnaming: set[str] = set()
        self._bars = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    # -- what is given out -------------------------------------------------------------------------

    def begin_unnaming(self) -> frozenset[str]:
        """Return the attempts (ids) that are still named on disk and will not start without GO, for a
        transaction that is to remove their names. Until :meth:`end_unnaming` they are not named again."""
        gone = frozenset(self._gone)
        self._gone.clear()
        self._unnaming |= gone
        return gone

    def end_unnaming(self, attempt_ids: Collection[str], *, durable: bool) -> None:
        """The transaction is over. Unless it is `durable`, another has to remove the names."""
        self._unnaming -= set(attempt_ids)
        if not durable:
            self._gone |= set(attempt_ids)

    def holding(self, job_ids: Collection[int]) -> list[Succession]:
        """Return the successions in which any of these jobs waits."""
        wanted = set(job_ids)
        return [
            one
            for one in self._open
            if any(entry.successor.prepared.job.id in wanted for entry in one.waiting.values())
        ]

    @property
    def is_well_filled(self) -> bool:
        """True while no succession has come to its end since the last outlook was given out, nor to half of
        what it had then."""
        return self._bars == 0 and all(2 * len(one.waiting) > one.given for one in self._open)

    @property
    def are_given(self) -> bool:
        """True while any succession is given out."""
        return bool(self._open)

    async def follow(self, outlook: Outlook, is_current: Callable[[], bool]) -> None:
        """Take back what `outlook` does not agree with, and give out what it has beyond that, as long as it
        `is_current`."""
        async with self._lock:
            now = self._clock.wall()
            await self._take_back(outlook, now)
            fresh = self._fresh(outlook, now) if is_current() and not self._bars else []
            if not fresh and not self._gone:
                return
            before = {one.name: one.withdrawals for one, _, _ in fresh}
            wanted = [
                (successor, [[gpu.uuid for gpu in gpus] for gpus in one.slots.values()])
                for one, _, found in fresh
                for successor in found
            ]
            gone = self.begin_unnaming()
            named: set[str] | None = None
            try:
                named = await self._store.write(successors.name, wanted, gone, wakes_scheduler=False)
            finally:
                self.end_unnaming(gone, durable=named is not None)
            failpoints.fp("after_named")
            if not is_current() or self._bars:
                self._gone |= named
            else:
                for one, line, found in fresh:
                    if one.ended.is_set() or one.withdrawals != before[one.name]:
                        # what they were to wait behind has started, or leaves and would be passed over
                        self._gone |= {successor.prepared.attempt_id for successor in found} & named
                        self._changed()
                    else:
                        self._give_out(one, line, found, named)
                    named -= {successor.prepared.attempt_id for successor in found}
            if self._gone:
                await self.unname()

    async def _take_back(self, outlook: Outlook, now: float) -> None:
        """Take back what an outlook does not agree with at `now` (wall time), and wait until that is
        certain."""
        entries: list[Entry] = []
        for one in list(self._open):
            line = next((line for line in outlook.lines if one.agrees(line, now)), None)
            wanted = self._not_started(one, line) if line is not None else []
            agreed = 0
            for entry, successor in zip(list(one.waiting.values()), wanted, strict=False):
                if entry.attempt_id != successor.prepared.attempt_id:
                    break
                agreed += 1
            entries += self._begin_withdrawal(one, agreed)
            entries += [entry for entry in one.waiting.values() if entry.is_asked_to_leave]
        await _all_over(entries)

    def _not_started(self, one: Succession | None, line: Line) -> list[Successor]:
        """Return the successors of a line without those that have started since it was chosen, which are the
        first, and without what comes after one that is lost."""
        waiting = set(one.waiting) if one is not None else set()
        here = {prepared.attempt_id for prepared in self._standby.prepared().values()} | waiting
        found = itertools.dropwhile(lambda each: each.prepared.attempt_id not in here, line.successors)
        free = here - self._unnaming | waiting  # the others cannot be named yet, nor passed over
        return list(itertools.takewhile(lambda each: each.prepared.attempt_id in free, found))

    def _fresh(self, outlook: Outlook, now: float) -> list[tuple[Succession, Line, list[Successor]]]:
        """Return what an outlook has beyond what is given out, with the successions that it goes to. `now`:
        the wall time at which the others were taken back, so that what agreed then does so still."""
        found = []
        for line in outlook.lines:
            one = next((one for one in self._open if one.agrees(line, now)), None)
            wanted = self._not_started(one, line)
            if one is None:
                if wanted and self._clock.wall() < line.until:
                    found.append((Succession(line), line, wanted))
                continue
            self._add_holders(one, line)
            more = wanted[len(one.waiting) :]
            if more and not any(entry.is_asked_to_leave for entry in one.waiting.values()):
                found.append((one, line, more))
        return found

    def _give_out(
        self, one: Succession, line: Line, found: Sequence[Successor], named: Collection[str]
    ) -> None:
        if one not in self._open:
            self._open.append(one)
        until = self._until_boot(one)
        given = True
        # the first may have been claimed meanwhile, by an end that nobody took over from
        for successor in itertools.dropwhile(lambda each: each.prepared.attempt_id not in named, found):
            prepared = successor.prepared
            attempt_id = prepared.attempt_id
            given = (
                given
                and attempt_id in named
                and self._engine.succeed(
                    one.name,
                    attempt_id,
                    list(one.slots.values()),
                    behind=next(reversed(one.waiting), None),
                    until_boot=until,
                )
            )
            if not given:
                self._gone |= {attempt_id} & set(named)
                continue
            self._standby.hold(prepared.job.id)
            entry = one.add(successor)
            task = self._group.create_task(self._watch(one, entry), name=f"succession-{attempt_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if one.waiting:
            self._add_holders(one, line)
        else:
            self._end(one)

    def _add_holders(self, one: Succession, line: Line) -> None:
        for attempt_id, slot in self._running.items():
            if attempt_id in line.slots or (one.alike and slot in one.slots):
                self._add_holder(one, attempt_id)

    def _add_holder(self, one: Succession, attempt_id: str) -> None:
        if (
            attempt_id not in self._of
            and attempt_id not in self._takers
            and self._engine.hand_on(one.name, attempt_id, until_boot=self._until_boot(one))
        ):
            one.holders.add(attempt_id)
            self._of[attempt_id] = one

    def begin(self, attempt: Attempt) -> None:
        """An attempt runs from now on."""
        slot = self._running[attempt.id] = _key(attempt.gpus)
        for one in self._open:
            if one.alike and slot in one.slots and one.waiting:
                self._add_holder(one, attempt.id)

    def _until_boot(self, one: Succession) -> float | None:
        left_s = one.until - self._clock.wall()
        return self._clock.boot() + left_s if left_s != float("inf") else None

    # -- what becomes of them ----------------------------------------------------------------------

    async def _watch(self, one: Succession, entry: Entry) -> None:
        """Wait for what becomes of a successor."""
        prepared = entry.successor.prepared
        attempt_id = prepared.attempt_id
        taken = await self._engine.outcome(attempt_id, prepared.job.id, prepared.job.attempt + 1)
        del one.waiting[attempt_id]
        if taken is None:
            self._gone.add(attempt_id)
            self._standby.release(prepared.job.id)
        else:
            self._note_start(one, entry, taken)
        entry.end(taken)
        if not one.waiting:
            self._end(one)
        elif taken is None:
            self._begin_withdrawal(one, 0)  # those behind it would wait for their turn in vain
        else:
            self._engine.give_turn(next(iter(one.waiting)))

    def _note_start(self, one: Succession, entry: Entry, taken: Taken) -> None:
        attempt_id = entry.attempt_id
        self._standby.started(entry.successor.prepared.job.id)
        self._unbooked[attempt_id] = asyncio.Event()
        self._running[attempt_id] = ",".join(taken.gpus)
        one.holders.add(attempt_id)
        self._of[attempt_id] = one
        if taken.after is not None:
            self._takers[taken.after] = entry
            if taken.after in one.taken_from:
                one.taken_from[taken.after].set()

    def _end(self, one: Succession) -> None:
        """End a succession in which nobody waits: what is handed on in it from now on is free."""
        if one.ended.is_set():
            return
        one.ended.set()
        self._engine.end_succession(one.name)
        for attempt_id in one.holders:
            if self._of.get(attempt_id) is one:
                del self._of[attempt_id]
        for event in one.taken_from.values():
            event.set()
        if one in self._open:
            self._open.remove(one)
        self._changed()

    def _begin_withdrawal(self, one: Succession, first: int) -> list[Entry]:
        """Ask those that wait, from the `first` on, to leave."""
        entries = one.leaving(first)
        for entry in reversed(entries):
            self._engine.withdraw(entry.attempt_id)
        return entries

    async def withdraw(self, some: Iterable[Succession]) -> None:
        """Take successions back. After this all that was in them has started, or will not without GO."""
        await _all_over([entry for one in some for entry in self._begin_withdrawal(one, 0)])

    async def take_back(self, job_id: int) -> None:
        """Take back the succession in which a job waits, if there is one."""
        await self.withdraw(self.holding([job_id]))

    async def unname(self) -> None:
        """Remove the names of those that will not start from the disk."""
        gone = self.begin_unnaming()
        durable = False
        try:
            if gone:
                await self._store.write(successors.unname, gone, wakes_scheduler=False)
            durable = True
        finally:
            self.end_unnaming(gone, durable=durable)

    # -- at an end ---------------------------------------------------------------------------------

    async def taken_over(self, attempt: Attempt, end: End) -> Entry | None:
        """Return what has started on the slot of an ended attempt, once all that started before it is on its
        way to the disk; None: nothing has, and nothing will."""
        slot = self._running.pop(attempt.id, _key(attempt.gpus))
        one = self._of.get(attempt.id)
        if one is None and attempt.id not in self._takers:
            one = next((each for each in self._open if slot in each.slots), None)
        if one is not None and attempt.id not in self._takers:
            if end.record is not None and end.record.handed_on == one.name:
                event = one.taken_from.setdefault(attempt.id, asyncio.Event())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_S):
                        await event.wait()
            if attempt.id not in self._takers:
                # it has handed nothing on, or nobody can tell: then those that wait can
                await self.withdraw([one])
        self._of.pop(attempt.id, None)
        if one is not None:
            one.holders.discard(attempt.id)
        entry = self._takers.pop(attempt.id, None)
        if entry is not None and entry.before is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORDER_S):
                    await entry.before.settled.wait()
        return entry

    def booked(self, entry: Entry) -> None:
        """The start of an attempt is durable."""
        self._standby.booked(entry.successor.prepared.job.id)
        event = self._unbooked.pop(entry.attempt_id, None)
        if event is not None:
            event.set()

    # -- changes -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def barred(self) -> AsyncIterator[None]:
        """Let a change happen that concerns jobs which may start at any moment: in the block nothing is given
        out, and what has started is durable. Raises StoreUnavailable."""
        self._bars += 1
        try:
            await self.withdraw(list(self._open))
            try:
                async with asyncio.timeout(BOOK_S):
                    for event in list(self._unbooked.values()):
                        await event.wait()
            except TimeoutError:
                raise StoreUnavailable("the start of a job is not recorded yet: try again") from None
            await self.unname()
            yield
        finally:
            self._bars -= 1
            self._changed()

    async def close(self) -> None:
        """Take everything back, for the end of the daemon."""
        self._bars += 1
        await self.withdraw(list(self._open))
        with contextlib.suppress(StoreUnavailable):
            await self.unname()

    def abandon(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks:
            task.cancel()


async def _all_over(entries: Sequence[Entry]) -> None:
    for entry in entries:
        await entry.over.wait()

"""The ledger: every GPU-millisecond of a window in exactly one box.

Times are integer milliseconds since the epoch, UTC. Each GPU's line of time is cut at every moment at which
something changes, and each piece goes into one box as a whole, so that the boxes add up to the capacity
because of how they are made, not because of how they are rounded. Where several attempts share a GPU, a
piece is divided between them to the millisecond.

Where two boxes would fit, the earlier in this order wins: out of service, held by an attempt, hand-over,
then what the queue was like while the GPU was free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

import msgspec

from leptond.core.jobs.model import FailureClass, State


class Box(StrEnum):
    """Where a GPU-second went."""

    OUT = "out"  # drained, sick or gone
    PROD = "prod"  # work that is kept
    START = "start"  # from the command's start to its first progress
    LOST = "lost"  # after the last checkpoint of an attempt that was tried again
    FAILED = "failed"  # of jobs that end failed, timed out or lost
    CANCEL = "cancel"  # of jobs that people, or their sweeps, cancelled
    STOP = "stop"  # from the stop signal to the last process's end
    GAP = "gap"  # between two jobs, while the next one could start
    FITIDLE = "fitidle"  # free although an eligible job fits: only for a reservation, which is named
    FRAG = "frag"  # free while eligible jobs queue and none fits
    EMPTY = "empty"  # free, and nothing eligible waits


ALLOCATED = (Box.PROD, Box.START, Box.LOST, Box.FAILED, Box.CANCEL, Box.STOP)
SCHEDULING = (Box.GAP, Box.FITIDLE, Box.FRAG)
"""Time that a scheduler could have used."""

WASTED = (Box.START, Box.LOST, Box.FAILED, Box.STOP)
"""What of a job's own time bought nothing."""


class IdleCause(StrEnum):
    """What the queue is like while GPUs are free."""

    NO_DEMAND = "none"
    FITS = "fits"
    BLOCKED = "blocked"


_FREE = {IdleCause.NO_DEMAND: Box.EMPTY, IdleCause.FITS: Box.FITIDLE, IdleCause.BLOCKED: Box.FRAG}

UNDECIDED = "undecided"
"""The cause that marks productive time of a job whose end is not known: it moves if the job fails."""


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on GPU `gpu` is in service (`out` empty), out of it (`out` says why), or, unless
    `managed`, none of ours."""

    gpu: str
    at: int
    out: str = ""
    managed: bool = True


class IdleCauseChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on the queue is like this for GPUs that are free; `cause` names a reservation."""

    at: int
    idle_cause: IdleCause
    cause: str = ""


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on an hour of `gpu` costs `micros` millionths of the currency; None: not known."""

    gpu: str
    at: int
    micros: int | None


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as the ledger sees it.

    `claimed`: its GPUs were given to it; `startable`: from when on it could have had them; `start`: its
    command began (None: never); `end`: its last process was gone (None: it lives); `progress`,
    `checkpoint`, `stop`: first progress, last durable checkpoint, stop asked for (None: not known, or
    never). `cause` is the class of its own end; `job_state` and `job_cause` those of its job.
    """

    id: str
    job: int
    gpus: Sequence[str]
    claimed: int
    startable: int | None = None
    start: int | None = None
    progress: int | None = None
    checkpoint: int | None = None
    stop: int | None = None
    end: int | None = None
    cause: str = ""
    stop_reason: str = ""
    gap_cause: str = ""
    job_state: State = State.RUNNING
    job_cause: str = ""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`ms` milliseconds of one GPU, in one box, for one cause, of one attempt (None: of nobody), at one
    price per GPU-hour (millionths; None: not known)."""

    gpu: str
    box: Box
    cause: str
    attempt: str | None
    price: int | None
    ms: int


_ENDED_BADLY = (State.FAILED, State.TIMED_OUT, State.LOST)


def attempt_phases(span: AttemptSpan, now: int) -> Iterator[tuple[int, int, Box, str]]:
    """(from, to, box, cause) of the time that an attempt held its GPUs, without gaps or overlaps; `now`
    ends an attempt that lives."""
    if span.start is None:
        return
    start = span.start
    end = max(start, span.end if span.end is not None else now)
    stop = min(max(start, span.stop), end) if span.stop is not None else end
    progress = min(max(start, span.progress), stop) if span.progress is not None else start
    kept = min(max(progress, span.checkpoint), stop) if span.checkpoint is not None else progress
    yield start, progress, Box.START, ""
    if span.job_state in _ENDED_BADLY:
        yield progress, stop, Box.FAILED, span.job_cause or span.cause
    elif span.job_state is State.CANCELLED:
        early = span.job_cause == FailureClass.STOPPED_EARLY
        yield progress, stop, Box.CANCEL, span.job_cause if early else ""
    elif span.end is None:
        yield progress, kept, Box.PROD, ""
        yield kept, stop, Box.PROD, UNDECIDED
    elif span.cause == FailureClass.OK:
        yield progress, stop, Box.PROD, ""
    else:
        yield progress, kept, Box.PROD, "" if span.job_state is State.SUCCEEDED else UNDECIDED
        yield kept, stop, Box.LOST, span.cause
    yield stop, end, Box.STOP, span.stop_reason


def startable_at(
    *, ready: float, released: float | None, looked: float | None, woken: float | None, now: float
) -> float:
    """From when on a job that is now given its GPUs could have had them: the hand-over begins there.

    `ready`: it was submitted, its begin time or its back-off was over; `released`: the last of its GPUs
    came free; `looked`: the scheduler's look before this one, which did not start it; `woken`: what caused
    this look was committed. What came after the last look made the job startable; if neither its own
    readiness nor its GPUs did, something else did (a hold, a cap), and then it was what woke the scheduler.

    >>> startable_at(ready=5.0, released=9.0, looked=8.0, woken=9.1, now=9.2)
    9.0
    >>> startable_at(ready=5.0, released=6.0, looked=8.0, woken=9.1, now=9.2)
    9.1
    """
    both = max(ready, released) if released is not None else ready
    if looked is not None and both < looked:
        both = woken if woken is not None else now
    return min(both, now)


T = TypeVar("T")


class _Timeline(Generic[T]):
    """A value over time, from transitions; `before` holds until the first."""

    def __init__(self, steps: Iterable[tuple[int, T]], before: T) -> None:
        ordered = sorted(steps, key=lambda step: step[0])
        self.times = [at for at, _ in ordered]
        self._values = [before, *(value for _, value in ordered)]

    def at(self, moment: int) -> T:
        """The value at `moment`; of several transitions at once the last."""
        return self._values[bisect_right(self.times, moment)]

    def within(self, begin: int, end: int) -> list[int]:
        """The transitions inside an interval."""
        return self.times[bisect_right(self.times, begin) : bisect_right(self.times, end - 1)]


def capacity_ms(begin: int, end: int, service: Sequence[ServiceChange]) -> int:
    """GPU-milliseconds of all managed GPUs in [begin, end): what the boxes must add up to. Counted from
    the service intervals alone, so that it can be compared with them."""
    total = 0
    for gpu in {one.gpu for one in service}:
        steps = sorted((one for one in service if one.gpu == gpu), key=lambda one: one.at)
        for one, following in zip(steps, [*steps[1:], None], strict=True):
            until = following.at if following is not None else end
            if one.managed:
                total += max(0, min(until, end) - max(one.at, begin))
    return total


class LedgerInterval(msgspec.Struct, frozen=True, kw_only=True):
    """[`begin`, `end`) of one GPU's line of time: the whole of it in one box."""

    gpu: str
    begin: int
    end: int
    box: Box
    cause: str
    attempt: str | None
    price: int | None


def ledger_intervals(
    begin: int,
    end: int,
    *,
    service: Sequence[ServiceChange],
    spans: Sequence[AttemptSpan],
    queue: Sequence[IdleCauseChange],
    prices: Sequence[PriceChange] = (),
    now: int | None = None,
) -> Iterator[LedgerInterval]:
    """The lines of all GPUs from `begin` to `end`, cut where something changes. `now` (else `end`) is where
    live attempts have got to. A piece that an attempt holds has the price of the attempt's start."""
    now = end if now is None else now
    held: dict[str, list[AttemptSpan]] = {}
    for span in spans:
        for gpu in span.gpus:
            held.setdefault(gpu, []).append(span)
    line = _Timeline(
        ((one.at, one) for one in queue), IdleCauseChange(at=begin, idle_cause=IdleCause.NO_DEMAND)
    )
    for gpu in sorted({one.gpu for one in service}):
        in_service = _Timeline[ServiceChange | None](
            ((one.at, one) for one in service if one.gpu == gpu), None
        )
        price = _Timeline[int | None](((one.at, one.micros) for one in prices if one.gpu == gpu), None)
        for a, b, box, cause, holder in _gpu_intervals(
            begin, end, in_service, line, price.within(begin, end), held.get(gpu, ()), now
        ):
            yield LedgerInterval(
                gpu=gpu,
                begin=a,
                end=b,
                box=box,
                cause=cause,
                attempt=holder.id if holder is not None else None,
                price=price.at(holder.start if holder is not None and holder.start is not None else a),
            )


def sum_entries(some: Iterable[LedgerInterval]) -> list[LedgerEntry]:
    """Pieces that are alike, added up."""
    found: dict[tuple[str, Box, str, str | None, int | None], int] = {}
    for one in some:
        key = (one.gpu, one.box, one.cause, one.attempt, one.price)
        found[key] = found.get(key, 0) + one.end - one.begin
    return [
        LedgerEntry(gpu=gpu, box=box, cause=cause, attempt=attempt, price=paid, ms=ms)
        for (gpu, box, cause, attempt, paid), ms in found.items()
    ]


def ledger_entries(
    begin: int,
    end: int,
    *,
    service: Sequence[ServiceChange],
    spans: Sequence[AttemptSpan],
    queue: Sequence[IdleCauseChange],
    prices: Sequence[PriceChange] = (),
    now: int | None = None,
) -> list[LedgerEntry]:
    """Where the GPU time of [begin, end) went: :func:`pieces`, gathered."""
    return sum_entries(
        ledger_intervals(begin, end, service=service, spans=spans, queue=queue, prices=prices, now=now)
    )


def _gpu_intervals(
    begin: int,
    end: int,
    in_service: _Timeline[ServiceChange | None],
    queue: _Timeline[IdleCauseChange],
    more: Sequence[int],
    spans: Iterable[AttemptSpan],
    now: int,
) -> Iterator[tuple[int, int, Box, str, AttemptSpan | None]]:
    """The line of one GPU in pieces: (from, to, box, cause, whose)."""
    # (at, order: ends before beginnings, number of the interval)
    edges: list[tuple[int, int, int]] = []
    work: list[tuple[Box, str, AttemptSpan]] = []

    def add(a: int, b: int, box: Box, cause: str, span: AttemptSpan) -> None:
        a, b = max(a, begin), min(b, end)
        if a < b:
            edges.append((a, 1, len(work)))
            edges.append((b, 0, len(work)))
            work.append((box, cause, span))

    for span in spans:
        for a, b, box, cause in attempt_phases(span, now):
            add(a, b, box, cause, span)
        begun = span.start if span.start is not None else (span.end if span.end is not None else now)
        since = span.startable if span.startable is not None else span.claimed
        cause = span.gap_cause or ("never-started" if span.start is None and span.end is not None else "")
        add(since, begun, Box.GAP, cause, span)
    cuts = {begin, end, *more, *in_service.within(begin, end), *queue.within(begin, end)}
    cuts.update(at for at, _, _ in edges)
    moments = sorted(cuts)
    edges.sort()
    active: set[int] = set()
    position = 0
    for a, b in pairwise(moments):
        while position < len(edges) and edges[position][0] <= a:
            _, opens, number = edges[position]
            active.add(number) if opens else active.discard(number)
            position += 1
        state = in_service.at(a)
        if state is None or not state.managed:
            continue
        if state.out:
            yield a, b, Box.OUT, state.out, None
            continue
        at_work = sorted(number for number in active if work[number][0] is not Box.GAP)
        if at_work:
            yield from _shared(a, b, [work[number] for number in at_work])
        elif active:
            box, cause, span = work[min(active)]
            yield a, b, box, cause, span
        else:
            waiting = queue.at(a)
            yield a, b, _FREE[waiting.idle_cause], waiting.cause, None


def _shared(
    a: int, b: int, holders: Sequence[tuple[Box, str, AttemptSpan]]
) -> Iterator[tuple[int, int, Box, str, AttemptSpan | None]]:
    """A piece in equal parts, to the millisecond; the first get what does not divide."""
    share, rest = divmod(b - a, len(holders))
    at = a
    for number, (box, cause, span) in enumerate(holders):
        until = at + share + (number < rest)
        if until > at:
            yield at, until, box, cause, span
        at = until


class BoxTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What the boxes of a window amount to, in GPU-milliseconds. The ratios are None where there is
    nothing to divide by."""

    boxes: Mapping[Box, int]

    @property
    def capacity(self) -> int:
        """All of it."""
        return sum(self.boxes.values())

    def of(self, *boxes: Box) -> int:
        """The sum of some."""
        return sum(self.boxes.get(box, 0) for box in boxes)

    @property
    def allocated(self) -> int:
        """Held by attempts."""
        return self.of(*ALLOCATED)

    @property
    def scheduling_goodput(self) -> float | None:
        """Of the time that jobs could have had, the part that they got."""
        return _ratio(self.allocated, self.allocated + self.of(*SCHEDULING))

    @property
    def runtime_goodput(self) -> float | None:
        """Of the time that jobs had, the part whose work is kept."""
        return _ratio(self.of(Box.PROD), self.allocated)

    @property
    def goodput(self) -> float | None:
        """The product of both: productive of all that was in service and wanted."""
        return _ratio(self.of(Box.PROD), self.capacity - self.of(Box.OUT, Box.EMPTY))

    @property
    def capacity_goodput(self) -> float | None:
        """Productive of all that was paid for."""
        return _ratio(self.of(Box.PROD), self.capacity)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def box_totals(entries: Iterable[LedgerEntry]) -> BoxTotals:
    """The boxes of some entries."""
    boxes = dict.fromkeys(Box, 0)
    for entry in entries:
        boxes[entry.box] += entry.ms
    return BoxTotals(boxes=boxes)


MS_PER_HOUR = 3_600_000


def total_cost(entries: Iterable[LedgerEntry]) -> float | None:
    """What the time of `entries` costs, in the currency of their prices; None when some has no price.
    Dollars are made only here: what is stored are integers."""
    total = 0
    for entry in entries:
        if entry.price is None:
            if entry.ms:
                return None
            continue
        total += entry.ms * entry.price
    return total / MS_PER_HOUR / 1e6


def cost_per_useful_hour(entries: Sequence[LedgerEntry]) -> float | None:
    """What an hour of productive GPU time costs in effect: all that was paid, over what was productive."""
    paid = total_cost(entries)
    useful = sum(entry.ms for entry in entries if entry.box is Box.PROD)
    return paid / (useful / MS_PER_HOUR) if paid is not None and useful else None


def checkpoint_interval_s(write_s: float, between_interruptions_s: float) -> float:
    """How often to write a checkpoint that takes `write_s`, when an attempt is interrupted every
    `between_interruptions_s` in the mean: sqrt(2 * write * MTBI) (J. W. Young, 1974; J. T. Daly, 2006). The
    expected loss at an interruption is half of it.

    >>> checkpoint_interval_s(30.0, 86400.0)
    2276.8...
    """
    if write_s <= 0 or between_interruptions_s <= 0:
        raise ValueError("both times must be positive")
    return float((2 * write_s * between_interruptions_s) ** 0.5)

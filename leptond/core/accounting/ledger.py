"""The ledger: every GPU-millisecond of a window in exactly one box.

Times are integer milliseconds since the epoch, UTC. Each GPU's timeline is cut at every moment at which
something changes, and each interval goes into one box as a whole, so that the boxes add up to the capacity by
construction, not by rounding. Where several attempts share a GPU, an interval is divided among them to the
millisecond.

Where two boxes would fit, the earlier in this order wins: out of service, held by an attempt, hand-over, then
the state of the queue while the GPU was free."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Generic, TypeVar

import msgspec

from leptond.core.jobs.model import FailureClass, State


class Box(StrEnum):
    """Class of a GPU's time."""

    OUT = "out"  # drained, unhealthy or absent
    PROD = "prod"  # work that is kept
    START = "start"  # from the command's start to its first progress
    LOST = "lost"  # after the last checkpoint of an attempt that was tried again
    FAILED = "failed"  # of jobs that end failed, timed out or lost
    CANCEL = "cancel"  # of jobs cancelled by people or by their sweeps
    STOP = "stop"  # from the stop signal to the last process's end
    GAP = "gap"  # between two jobs, while the next one could start
    FITIDLE = "fitidle"  # free although an eligible job fits: only for a reservation, which is named
    FRAG = "frag"  # free while eligible jobs queue and none fits
    EMPTY = "empty"  # free, and nothing eligible waits


ALLOCATED = (Box.PROD, Box.START, Box.LOST, Box.FAILED, Box.CANCEL, Box.STOP)
SCHEDULING = (Box.GAP, Box.FITIDLE, Box.FRAG)
"""Time that a scheduler could have used."""

WASTED = (Box.START, Box.LOST, Box.FAILED, Box.STOP)
"""Time of attempts that produced nothing."""


class IdleCause(StrEnum):
    """State of the queue while GPUs are free: no eligible job, one that fits, or only jobs that do not
    fit."""

    NO_DEMAND = "none"
    FITS = "fits"
    BLOCKED = "blocked"


_FREE = {IdleCause.NO_DEMAND: Box.EMPTY, IdleCause.FITS: Box.FITIDLE, IdleCause.BLOCKED: Box.FRAG}

UNDECIDED = "undecided"
"""Cause of productive time of a job whose end is not known; it moves to another box if the job fails."""


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on GPU `gpu` is in service (`out` empty), out of it (`out` is the reason), or not managed."""

    gpu: str
    at: int
    out: str = ""
    managed: bool = True


class IdleCauseChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on `idle_cause` holds for free GPUs; `cause` names the job that GPUs are reserved for."""

    at: int
    idle_cause: IdleCause
    cause: str = ""


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on an hour of `gpu` costs `micros` millionths of the currency; None: not known."""

    gpu: str
    at: int
    micros: int | None


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Times of an attempt, for the ledger.

    `claimed`: GPUs given to it. `startable`: from when it could have had them. `start`: its command began
    (None: never). `progress`, `checkpoint`, `stop`: first progress, last durable checkpoint, stop requested
    (None: not known, or never). `end`: its last process was gone (None: live). `cause` is the class of its
    own end; `job_state` and `job_cause` are those of its job."""

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
    """`ms` milliseconds of one GPU in one box, for one cause, of one attempt (None: of none), at one price
    per GPU-hour (millionths; None: not known)."""

    gpu: str
    box: Box
    cause: str
    attempt: str | None
    price: int | None
    ms: int


_ENDED_BADLY = (State.FAILED, State.TIMED_OUT, State.LOST)


def attempt_phases(span: AttemptSpan, now: int) -> Iterator[tuple[int, int, Box, str]]:
    """Yield (from, to, box, cause) of the time that an attempt held its GPUs, without gaps or overlaps. `now`
    ends a live attempt."""
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
    *, ready: float, released: float | None, passed_at: float | None, woken_at: float | None, now: float
) -> float:
    """Return from when a job that is now given its GPUs could have had them: the start of the hand-over.

    `ready`: it was submitted, and its begin time and back-off were over. `released`: the last of its GPUs
    came free. `passed_at`: the previous scheduling pass, which did not start it. `woken_at`: commit of what
    caused this pass. What came after the previous pass made the job startable; if neither its own readiness
    nor its GPUs did, then what woke the scheduler did (a released hold, a raised cap).

    >>> startable_at(ready=5.0, released=9.0, passed_at=8.0, woken_at=9.1, now=9.2)
    9.0
    >>> startable_at(ready=5.0, released=6.0, passed_at=8.0, woken_at=9.1, now=9.2)
    9.1
    """
    both = max(ready, released) if released is not None else ready
    if passed_at is not None and both < passed_at:
        both = woken_at if woken_at is not None else now
    return min(both, now)


T = TypeVar("T")


class _Timeline(Generic[T]):
    """A value over time, from transitions; `before` holds until the first."""

    def __init__(self, steps: Iterable[tuple[int, T]], before: T) -> None:
        ordered = sorted(steps, key=lambda step: step[0])
        self.times = [at for at, _ in ordered]
        self._values = [before, *(value for _, value in ordered)]

    def at(self, moment: int) -> T:
        """Return the value at `moment`; of several transitions at once the last."""
        return self._values[bisect_right(self.times, moment)]

    def within(self, begin: int, end: int) -> list[int]:
        """Return the times of transitions inside an interval."""
        return self.times[bisect_right(self.times, begin) : bisect_right(self.times, end - 1)]


def capacity_ms(begin: int, end: int, service: Sequence[ServiceChange]) -> int:
    """Return the GPU-milliseconds of all managed GPUs in [begin, end), which the boxes must add up to.
    Computed from the service intervals alone, as an independent check."""
    total = 0
    for gpu in {one.gpu for one in service}:
        steps = sorted((one for one in service if one.gpu == gpu), key=lambda one: one.at)
        for one, following in zip(steps, [*steps[1:], None], strict=True):
            until = following.at if following is not None else end
            if one.managed:
                total += max(0, min(until, end) - max(one.at, begin))
    return total


class LedgerInterval(msgspec.Struct, frozen=True, kw_only=True):
    """[`begin`, `end`) of one GPU, wholly in one box."""

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
    """Yield the timelines of all GPUs from `begin` to `end`, cut where something changes.

    `now` (default: `end`) ends live attempts. An interval that an attempt holds has the price of the
    attempt's start."""
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
    """Sum up intervals that are alike."""
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
    """Return where the GPU time of [begin, end) went: the intervals, summed up."""
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
    """Yield the timeline of one GPU: (from, to, box, cause, attempt)."""
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
    """Divide an interval into equal parts, to the millisecond; the first get the remainder."""
    share, rest = divmod(b - a, len(holders))
    at = a
    for number, (box, cause, span) in enumerate(holders):
        until = at + share + (number < rest)
        if until > at:
            yield at, until, box, cause, span
        at = until


class BoxTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of the boxes of a window, in GPU-milliseconds. Ratios are None where there is nothing to divide
    by."""

    boxes: Mapping[Box, int]

    @property
    def capacity(self) -> int:
        """All of it."""
        return sum(self.boxes.values())

    def of(self, *boxes: Box) -> int:
        """Return the sum of some boxes."""
        return sum(self.boxes.get(box, 0) for box in boxes)

    @property
    def allocated(self) -> int:
        """Time held by attempts."""
        return self.of(*ALLOCATED)

    @property
    def scheduling_goodput(self) -> float | None:
        """Part of the time usable for jobs that jobs had."""
        return _ratio(self.allocated, self.allocated + self.of(*SCHEDULING))

    @property
    def runtime_goodput(self) -> float | None:
        """Part of the time that jobs had whose work is kept."""
        return _ratio(self.of(Box.PROD), self.allocated)

    @property
    def goodput(self) -> float | None:
        """Product of both: productive part of the time in service and in demand."""
        return _ratio(self.of(Box.PROD), self.capacity - self.of(Box.OUT, Box.EMPTY))

    @property
    def capacity_goodput(self) -> float | None:
        """Productive part of all time."""
        return _ratio(self.of(Box.PROD), self.capacity)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def box_totals(entries: Iterable[LedgerEntry]) -> BoxTotals:
    """Sum up entries by box."""
    boxes = dict.fromkeys(Box, 0)
    for entry in entries:
        boxes[entry.box] += entry.ms
    return BoxTotals(boxes=boxes)


MS_PER_HOUR = 3_600_000


def total_cost(entries: Iterable[LedgerEntry]) -> float | None:
    """Return the cost of `entries` in the currency of their prices; None if some have no price. Integers are
    summed; the division comes last."""
    total = 0
    for entry in entries:
        if entry.price is None:
            if entry.ms:
                return None
            continue
        total += entry.ms * entry.price
    return total / MS_PER_HOUR / 1e6


def cost_per_useful_hour(entries: Sequence[LedgerEntry]) -> float | None:
    """Return the effective cost of an hour of productive GPU time: all cost over productive hours."""
    paid = total_cost(entries)
    useful = sum(entry.ms for entry in entries if entry.box is Box.PROD)
    return paid / (useful / MS_PER_HOUR) if paid is not None and useful else None


def checkpoint_interval_s(write_s: float, between_interruptions_s: float) -> float:
    """Return the interval at which to write a checkpoint that takes `write_s`, with interruptions every
    `between_interruptions_s` on average: sqrt(2 * write * MTBI) (J. W. Young, 1974; J. T. Daly, 2006). The
    expected loss at an interruption is half of it.

    >>> checkpoint_interval_s(30.0, 86400.0)
    2276.8...
    """
    if write_s <= 0 or between_interruptions_s <= 0:
        raise ValueError("both times must be positive")
    return float((2 * write_s * between_interruptions_s) ** 0.5)

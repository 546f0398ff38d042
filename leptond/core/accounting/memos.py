"""Memos of a cost report: figures that cut across the boxes of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from leptond.core.accounting.ledger import (
    ALLOCATED,
    MS_PER_HOUR,
    UNDECIDED,
    Box,
    BoxTotals,
    LedgerEntry,
    LedgerInterval,
)
from leptond.core.accounting.report_types import IDLE_BELOW, AttemptRecord, LedgerHistory, Memos


class _CostSum:
    """A sum of GPU time in ms with its cost, which is None once some of the time has no price."""

    def __init__(self) -> None:
        self.ms: float = 0
        self.cost: float | None = 0.0

    def add(self, ms: float, price: int | None) -> None:
        """Add `ms` at `price` per GPU-hour (millionths)."""
        self.ms += ms
        if self.cost is None or (price is None and ms > 0):
            self.cost = None
        else:
            self.cost += ms * (price or 0) / MS_PER_HOUR / 1e6


def memos_of(
    history: LedgerHistory,
    entries: Sequence[LedgerEntry],
    totals: BoxTotals,
    parts: Mapping[str, float],
    intervals: Iterable[LedgerInterval],
    now: int,
) -> Memos:
    """Compute the memos of a window.

    `parts`: by attempt id, the part of it that lies within the window. `now` in ms ends live attempts."""
    prices = {entry.attempt: entry.price for entry in entries if entry.attempt is not None}
    use = _SampledSums(history, entries, parts, prices)
    saved, early = _CostSum(), _CostSum()
    retries_saved = stopped_early = 0
    for one in history.attempts:
        if parts[one.span.id] <= 0:
            continue
        price, gpus = prices.get(one.span.id), len(one.span.gpus)
        if one.retries_saved:
            retries_saved += one.retries_saved
            saved.add(round(one.retries_saved * one.run_s * 1000) * gpus, price)
        if one.spared_ms:
            stopped_early += 1
            early.add(one.spared_ms * gpus, price)
    started = [one for one in history.attempts if one.span.start is not None]
    return Memos(
        sampled_gpu_seconds=round(use.sampled_ms / 1000, 3),
        idle_gpu_seconds=round(use.idle.ms / 1000, 3),
        idle_ratio=use.idle.ms / totals.allocated if totals.allocated and use.sampled_ms else None,
        idle_cost=use.idle.cost if use.sampled_ms else None,
        never_used_gpu_seconds=use.never_used_ms / 1000,
        unused_memory=1 - use.memory_used_ms / use.memory_ms if use.memory_ms else None,
        backoff_gpu_seconds=_backoff_ms(history.attempts, intervals, now) / 1000,
        undecided_gpu_seconds=sum(entry.ms for entry in entries if entry.cause == UNDECIDED) / 1000,
        start_unknown=sum(1 for one in started if not one.progress_known),
        retries_saved=retries_saved,
        retries_saved_gpu_seconds=saved.ms / 1000,
        retries_saved_cost=saved.cost,
        stopped_early=stopped_early,
        stopped_early_gpu_seconds=early.ms / 1000,
        stopped_early_cost=early.cost,
    )


class _SampledSums:
    """Sums of the samples of all attempts in a window, in GPU-milliseconds."""

    def __init__(
        self,
        history: LedgerHistory,
        entries: Sequence[LedgerEntry],
        parts: Mapping[str, float],
        prices: Mapping[str, int | None],
    ) -> None:
        self.sampled_ms = self.never_used_ms = self.memory_ms = self.memory_used_ms = 0.0
        self.idle = _CostSum()
        size = {device.gpu: device.memory_bytes for device in history.devices}
        held: dict[tuple[str, str], int] = defaultdict(int)
        for entry in entries:
            if entry.attempt is not None and entry.box in ALLOCATED:
                held[entry.attempt, entry.gpu] += entry.ms
        for one in history.attempts:
            part = parts[one.span.id]
            for use in one.uses:
                self.sampled_ms += use.sampled_ms * part
                self.idle.add(use.idle_ms * part, prices.get(one.span.id))
                held_ms = held[one.span.id, use.gpu]
                if use.max_utilization is not None and use.max_utilization < IDLE_BELOW:
                    self.never_used_ms += held_ms
                if use.max_memory_bytes is not None and size.get(use.gpu):
                    self.memory_ms += held_ms
                    self.memory_used_ms += held_ms * min(1.0, use.max_memory_bytes / size[use.gpu])


def _backoff_ms(attempts: Sequence[AttemptRecord], intervals: Iterable[LedgerInterval], now: int) -> int:
    """Empty GPU time during which jobs were in back-off, up to the GPUs that they would take."""
    by_job: dict[int, list[AttemptRecord]] = defaultdict(list)
    for one in attempts:
        by_job[one.span.job].append(one)
    # (time, change in empty GPUs, change in GPUs of jobs in back-off)
    changes: list[tuple[int, int, int]] = [
        change
        for interval in intervals
        if interval.box is Box.EMPTY
        for change in ((interval.begin, 1, 0), (interval.end, -1, 0))
    ]
    for tries in by_job.values():
        tries.sort(key=lambda one: one.number)
        for one, following in pairwise(tries):
            over = following.span.startable if following.span.startable is not None else now
            if one.span.end is not None and one.span.end < over and following.number == one.number + 1:
                width = len(one.span.gpus)
                changes += [(one.span.end, 0, width), (over, 0, -width)]
    total = empty = wanted = 0
    last = None
    for at, free, waiting in sorted(changes):
        if last is not None:
            total += min(empty, wanted) * (at - last)
        last, empty, wanted = at, empty + free, wanted + waiting
    return total

"""The cost report of a window: what was paid, what was productive, each waste with its cause, and what would
save most. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from leptond.core.accounting.groups import group_lines
from leptond.core.accounting.ledger import (
    MS_PER_HOUR,
    WASTED,
    AttemptSpan,
    Box,
    BoxTotals,
    LedgerEntry,
    box_totals,
    capacity_ms,
    checkpoint_interval_s,
    cost_per_useful_hour,
    ledger_intervals,
    sum_entries,
    total_cost,
)
from leptond.core.accounting.memos import memos_of
from leptond.core.accounting.prices import J_PER_KWH, Rates, energy_cost
from leptond.core.accounting.report_types import (
    Advice,
    AttemptRecord,
    BoxLine,
    CauseLine,
    Checkpoints,
    CostReport,
    Device,
    Energy,
    GroupBy,
    HandOver,
    LedgerHistory,
    Memos,
    PriceLine,
    RetryLine,
)
from leptond.core.jobs.model import FailureClass, State

WASTE = (*WASTED, Box.OUT, Box.GAP, Box.FITIDLE, Box.FRAG)


def cost_report(
    history: LedgerHistory, begin: int, end: int, *, now: int, rates: Rates, by: GroupBy | None = None
) -> CostReport:
    """Compute the report of [begin, end) in ms; `now` ends live attempts."""
    detail = min(end, max(begin, history.detail_since)) if history.detail_since is not None else begin
    whole = list(
        ledger_intervals(
            detail,
            end,
            service=history.service,
            spans=history.spans,
            queue=history.queue,
            prices=history.prices,
            now=min(now, end),
        )
    )
    entries = [*sum_entries(whole), *_daily_entries(history)]
    totals = box_totals(entries)
    records = {record.span.id: record for record in history.attempts}
    parts = {id: _part_in_window(record.span, begin, end, now) for id, record in records.items()}
    memos = memos_of(history, entries, totals, parts, whole, now)
    return CostReport(
        gpus=len({entry.gpu for entry in entries}),
        detail_since_s=detail / 1000 if detail > begin else None,
        simulated=any(device.simulated for device in history.devices),
        currency=rates.currency,
        capacity_gpu_seconds=(
            capacity_ms(detail, end, history.service) + sum(r.ms for r in history.daily_totals)
        )
        / 1000,
        paid=_known(entries),
        unpriced_gpu_seconds=sum(entry.ms for entry in entries if entry.price is None) / 1000,
        boxes=[_box(box, entries, totals) for box in Box],
        scheduling_goodput=totals.scheduling_goodput,
        runtime_goodput=totals.runtime_goodput,
        goodput=totals.goodput,
        capacity_goodput=totals.capacity_goodput,
        cost_per_useful_gpu_hour=cost_per_useful_hour(entries),
        memos=memos,
        energy=_energy(history, parts, begin, end, rates),
        retries=_retries(history.attempts, entries),
        checkpoints=_checkpoints(history.attempts, begin, end, min(now, end)),
        hand_over=_hand_over(history.attempts, begin, end),
        prices=_prices(history.devices),
        groups=group_lines(by, entries, history, parts) if by is not None else [],
        advice=_advice(entries, totals, memos),
    )


def _daily_entries(history: LedgerHistory) -> list[LedgerEntry]:
    return [
        LedgerEntry(gpu=one.gpu, box=one.box, cause=one.cause, attempt=None, price=one.price, ms=one.ms)
        for one in history.daily_totals
    ]


def _known(entries: Sequence[LedgerEntry]) -> float | None:
    """Return the cost; None also if there is no entry."""
    return total_cost(entries) if entries else None


def _box(box: Box, entries: Sequence[LedgerEntry], totals: BoxTotals) -> BoxLine:
    mine = [entry for entry in entries if entry.box is box]
    causes: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in mine:
        causes[entry.cause].append(entry)
    lines = [
        CauseLine(cause=cause, gpu_seconds=sum(one.ms for one in some) / 1000, cost=_known(some))
        for cause, some in causes.items()
        if cause
    ]
    return BoxLine(
        box=box,
        gpu_seconds=totals.boxes[box] / 1000,
        share=totals.boxes[box] / totals.capacity if totals.capacity else 0.0,
        cost=total_cost(mine),
        waste=box in WASTE,
        causes=sorted(lines, key=lambda line: (-line.gpu_seconds, line.cause)),
    )


def _part_in_window(span: AttemptSpan, begin: int, end: int, now: int) -> float:
    """Return the part of an attempt that lies in the window, to scale samples that cover all of it."""
    if span.start is None:
        return 0.0
    until = span.end if span.end is not None else max(now, span.start)
    inside = min(until, end) - max(span.start, begin)
    return min(1.0, max(0, inside) / (until - span.start)) if until > span.start else 0.0


def _energy(
    history: LedgerHistory, parts: Mapping[str, float], begin: int, end: int, rates: Rates
) -> Energy | None:
    joules = idle = 0.0
    sources: set[str] = set()
    for record in history.attempts:
        for use in record.uses:
            if use.energy_mj is not None:
                joules += use.energy_mj / 1000 * parts[record.span.id]
                sources.add(use.energy_source or "power")
    for one in history.idle_energy:
        if begin <= one.hour * MS_PER_HOUR < end:
            idle += one.energy_mj / 1000
            sources.add(one.energy_source)
    if not sources:
        return None
    return Energy(
        kwh=joules / J_PER_KWH,
        idle_kwh=idle / J_PER_KWH,
        cost=energy_cost(joules, rates),
        idle_cost=energy_cost(idle, rates),
        sources=sorted(sources),
    )


def _retries(records: Sequence[AttemptRecord], entries: Sequence[LedgerEntry]) -> list[RetryLine]:
    wasted: dict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.attempt is not None and entry.box in (Box.LOST, Box.FAILED):
            wasted[entry.attempt] += entry.ms
    newest: dict[int, int] = {}
    for record in records:
        newest[record.span.job] = max(newest.get(record.span.job, 0), record.number)
    jobs: dict[str, set[int]] = defaultdict(set)
    good: dict[str, set[int]] = defaultdict(set)
    waste: dict[str, int] = defaultdict(int)
    for record in records:
        cause = record.span.cause
        if record.span.end is None or record.number == newest[record.span.job]:
            continue
        jobs[cause].add(record.span.job)
        waste[cause] += wasted[record.span.id]
        if record.span.job_state is State.SUCCEEDED:
            good[cause].add(record.span.job)
    lines = [
        RetryLine(
            cause=cause,
            retried=len(some),
            succeeded=len(good[cause]),
            wasted_gpu_seconds=waste[cause] / 1000,
        )
        for cause, some in jobs.items()
    ]
    return sorted(lines, key=lambda line: (-line.wasted_gpu_seconds, line.cause))


_NO_INTERRUPTION = frozenset(
    {
        "",
        FailureClass.OK,
        FailureClass.CANCELLED,
        FailureClass.STOPPED_EARLY,
        FailureClass.TIMEOUT,
        FailureClass.CONFIG,
        FailureClass.NEVER_STARTED,
    }
)
HALF_A_MINUTE_S = 30.0


def _checkpoints(records: Sequence[AttemptRecord], begin: int, end: int, now: int) -> Checkpoints:
    ran_ms = interruptions = 0
    for record in records:
        span = record.span
        if span.start is None:
            continue
        until = span.end if span.end is not None else now
        ran_ms += max(0, min(until, end) - max(span.start, begin))
        ended_here = span.end is not None and begin <= span.end < end
        interruptions += ended_here and span.cause not in _NO_INTERRUPTION
    between = ran_ms / 1000 / interruptions if interruptions and ran_ms else None
    return Checkpoints(
        interruptions=interruptions,
        mean_time_between_s=between,
        interval_s_for_30_s=checkpoint_interval_s(HALF_A_MINUTE_S, between) if between else None,
    )


def _hand_over(records: Sequence[AttemptRecord], begin: int, end: int) -> HandOver:
    waits, starts = [], 0
    for record in records:
        span = record.span
        if span.start is None or not begin <= span.start < end:
            continue
        starts += 1
        if span.startable is not None and not span.gap_cause:
            waits.append(max(0, span.start - span.startable) / 1000)
    waits.sort()
    return HandOver(starts=starts, p50_s=_quantile(waits, 0.5), p99_s=_quantile(waits, 0.99))


def _quantile(ordered: Sequence[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


def _prices(devices: Sequence[Device]) -> list[PriceLine]:
    models: dict[tuple[str, int | None, str | None, str | None, str | None], int] = defaultdict(int)
    for one in devices:
        models[one.name, one.price, one.currency, one.source, one.as_of] += 1
    return [
        PriceLine(
            model=model,
            gpus=count,
            per_gpu_hour=price / 1e6 if price is not None else None,
            currency=currency,
            source=source,
            as_of=as_of,
        )
        for (model, price, currency, source, as_of), count in models.items()
    ]


_WHAT_TO_DO = {
    Box.OUT: "GPUs out of service: mend them and undrain",
    Box.START: "from a job's start to its first progress: look at imports, data loading, compilation",
    Box.LOST: "work that was not in a checkpoint when its attempt ended: write checkpoints more often",
    Box.FAILED: "jobs that failed in the end: try them for a few minutes first, and use --retries sparingly",
    Box.STOP: "jobs that took their time to stop: save faster at SIGTERM, or shorten --grace",
    Box.GAP: "hand-over between jobs",
    Box.FITIDLE: "GPUs kept free for a job: make those that run preemptible, or give them shorter limits",
    Box.FRAG: "free GPUs that no waiting job fits: make jobs preemptible, or narrower",
}
ADVICE = 3
"""Most lines of advice: those that would save most."""


def _advice(entries: Sequence[LedgerEntry], totals: BoxTotals, memos: Memos) -> list[Advice]:
    found = []
    for box, words in _WHAT_TO_DO.items():
        mine = [entry for entry in entries if entry.box is box]
        if mine:
            by_cause: dict[str, int] = defaultdict(int)
            for entry in mine:
                by_cause[entry.cause] += entry.ms
            worst = max(by_cause, key=lambda cause: by_cause[cause])
            sentence = f"{words} (mostly: {worst})" if worst else words
            found.append(
                Advice(sentence=sentence, gpu_seconds=totals.boxes[box] / 1000, cost=total_cost(mine))
            )
    if memos.idle_gpu_seconds > 0:
        found.append(
            Advice(
                sentence="GPUs that jobs held and did not use: ask for fewer, or find what the job waits for",
                gpu_seconds=memos.idle_gpu_seconds,
                cost=memos.idle_cost,
            )
        )
    found.sort(key=lambda one: -one.gpu_seconds)
    least = totals.capacity / 1000 / 1000  # below a thousandth is not worth a line
    return [one for one in found[:ADVICE] if one.gpu_seconds > least]

"""The report of a window: what was paid, what was productive, each waste with its cause, and what would
save most. Pure: a history goes in, figures come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from leptond.core.accounting.ledger import (
    ALLOCATED,
    MS_PER_HOUR,
    UNDECIDED,
    WASTED,
    AttemptSpan,
    Box,
    BoxTotals,
    LedgerEntry,
    LedgerInterval,
    box_totals,
    capacity_ms,
    checkpoint_interval_s,
    cost_per_useful_hour,
    ledger_intervals,
    sum_entries,
    total_cost,
)
from leptond.core.accounting.prices import J_PER_KWH, Rates, energy_cost
from leptond.core.accounting.report_types import (
    IDLE_BELOW,
    Advice,
    AttemptRecord,
    BoxLine,
    CauseLine,
    Checkpoints,
    CostReport,
    Device,
    Energy,
    GroupBy,
    GroupLine,
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
    """The report of [begin, end) in ms; live attempts have got to `now`."""
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
    entries = [*sum_entries(whole), *_rolled(history)]
    totals = box_totals(entries)
    facts = {fact.span.id: fact for fact in history.attempts}
    parts = {id: _part(fact.span, begin, end, now) for id, fact in facts.items()}
    memos = _memos(history, entries, totals, parts, whole, now)
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
        groups=_groups(by, entries, history, parts) if by is not None else [],
        advice=_advice(entries, totals, memos),
    )


def _rolled(history: LedgerHistory) -> list[LedgerEntry]:
    return [
        LedgerEntry(gpu=one.gpu, box=one.box, cause=one.cause, attempt=None, price=one.price, ms=one.ms)
        for one in history.daily_totals
    ]


def _known(entries: Sequence[LedgerEntry]) -> float | None:
    """The cost; None also where there is nothing to pay for because nothing has a price."""
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


def _part(span: AttemptSpan, begin: int, end: int, now: int) -> float:
    """How much of an attempt lies in the window: what was sampled over the whole of it counts so far."""
    if span.start is None:
        return 0.0
    until = span.end if span.end is not None else max(now, span.start)
    inside = min(until, end) - max(span.start, begin)
    return min(1.0, max(0, inside) / (until - span.start)) if until > span.start else 0.0


def _memos(
    history: LedgerHistory,
    entries: Sequence[LedgerEntry],
    totals: BoxTotals,
    parts: Mapping[str, float],
    whole: Iterable[LedgerInterval],
    now: int,
) -> Memos:
    price = {entry.attempt: entry.price for entry in entries if entry.attempt is not None}
    memory = {device.gpu: device.memory_bytes for device in history.devices}
    held: dict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        if entry.attempt is not None and entry.box in ALLOCATED:
            held[entry.attempt, entry.gpu] += entry.ms
    sampled = idle = never = 0.0
    idle_cost: float | None = 0.0
    memory_ms = used_ms = 0.0
    saved = saved_ms = 0
    saved_cost: float | None = 0.0
    early = early_ms = 0
    early_cost: float | None = 0.0
    for fact in history.attempts:
        part, paid = parts[fact.span.id], price.get(fact.span.id)
        for use in fact.uses:
            sampled += use.sampled_ms * part
            idle += use.idle_ms * part
            idle_cost = _plus(idle_cost, use.idle_ms * part, paid)
            mine = held[fact.span.id, use.gpu]
            if use.max_utilization is not None and use.max_utilization < IDLE_BELOW:
                never += mine
            if use.max_memory_bytes is not None and memory.get(use.gpu):
                memory_ms += mine
                used_ms += mine * min(1.0, use.max_memory_bytes / memory[use.gpu])
        if fact.retries_saved and parts[fact.span.id] > 0:
            saved += fact.retries_saved
            ms = round(fact.retries_saved * fact.run_s * 1000) * len(fact.span.gpus)
            saved_ms += ms
            saved_cost = _plus(saved_cost, ms, paid)
        if fact.spared_ms and parts[fact.span.id] > 0:
            early += 1
            ms = fact.spared_ms * len(fact.span.gpus)
            early_ms += ms
            early_cost = _plus(early_cost, ms, paid)
    return Memos(
        sampled_gpu_seconds=round(sampled / 1000, 3),
        idle_gpu_seconds=round(idle / 1000, 3),
        idle_ratio=idle / totals.allocated if totals.allocated and sampled else None,
        idle_cost=idle_cost if sampled else None,
        never_used_gpu_seconds=never / 1000,
        unused_memory=1 - used_ms / memory_ms if memory_ms else None,
        backoff_gpu_seconds=_backoff_ms(history.attempts, whole, now) / 1000,
        undecided_gpu_seconds=sum(e.ms for e in entries if e.cause == UNDECIDED) / 1000,
        start_unknown=sum(
            1 for fact in history.attempts if not fact.progress_known and fact.span.start is not None
        ),
        retries_saved=saved,
        retries_saved_gpu_seconds=saved_ms / 1000,
        retries_saved_cost=saved_cost,
        stopped_early=early,
        stopped_early_gpu_seconds=early_ms / 1000,
        stopped_early_cost=early_cost,
    )


def _plus(total: float | None, ms: float, price: int | None) -> float | None:
    if total is None or (price is None and ms > 0):
        return None
    return total + ms * (price or 0) / MS_PER_HOUR / 1e6


def _backoff_ms(facts: Sequence[AttemptRecord], whole: Iterable[LedgerInterval], now: int) -> int:
    """Empty GPU time during which jobs were in back-off, up to the GPUs that they would take."""
    attempts: dict[int, list[AttemptRecord]] = defaultdict(list)
    for fact in facts:
        attempts[fact.span.job].append(fact)
    changes: list[tuple[int, int, int]] = [
        change
        for piece in whole
        if piece.box is Box.EMPTY
        for change in ((piece.begin, 1, 0), (piece.end, -1, 0))
    ]
    for mine in attempts.values():
        mine.sort(key=lambda fact: fact.number)
        for one, following in pairwise(mine):
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


def _energy(
    history: LedgerHistory, parts: Mapping[str, float], begin: int, end: int, rates: Rates
) -> Energy | None:
    joules = idle = 0.0
    sources: set[str] = set()
    for fact in history.attempts:
        for use in fact.uses:
            if use.energy_mj is not None:
                joules += use.energy_mj / 1000 * parts[fact.span.id]
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


def _retries(facts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry]) -> list[RetryLine]:
    wasted: dict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.attempt is not None and entry.box in (Box.LOST, Box.FAILED):
            wasted[entry.attempt] += entry.ms
    newest: dict[int, int] = {}
    for fact in facts:
        newest[fact.span.job] = max(newest.get(fact.span.job, 0), fact.number)
    jobs: dict[str, set[int]] = defaultdict(set)
    good: dict[str, set[int]] = defaultdict(set)
    waste: dict[str, int] = defaultdict(int)
    for fact in facts:
        cause = fact.span.cause
        if fact.span.end is None or fact.number == newest[fact.span.job]:
            continue
        jobs[cause].add(fact.span.job)
        waste[cause] += wasted[fact.span.id]
        if fact.span.job_state is State.SUCCEEDED:
            good[cause].add(fact.span.job)
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


def _checkpoints(facts: Sequence[AttemptRecord], begin: int, end: int, now: int) -> Checkpoints:
    ran_ms = interruptions = 0
    for fact in facts:
        span = fact.span
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


def _hand_over(facts: Sequence[AttemptRecord], begin: int, end: int) -> HandOver:
    waits, starts = [], 0
    for fact in facts:
        span = fact.span
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


def _groups(
    by: GroupBy, entries: Sequence[LedgerEntry], history: LedgerHistory, parts: Mapping[str, float]
) -> list[GroupLine]:
    facts = {fact.span.id: fact for fact in history.attempts}
    index = {device.gpu: str(device.index) for device in history.devices}

    def key(fact: AttemptRecord, gpu: str) -> str:
        match by:
            case "user":
                return fact.user
            case "project":
                return fact.project or "-"
            case "queue":
                return fact.queue or "-"
            case "job":
                return f"{fact.span.job} {fact.name}"
            case "gpu":
                return index.get(gpu, gpu)

    held: dict[str, list[LedgerEntry]] = defaultdict(list)
    jobs: dict[str, set[int]] = defaultdict(set)
    idle: dict[str, float] = defaultdict(float)
    energy: dict[str, float] = {}
    for entry in entries:
        if entry.attempt is not None and entry.box in ALLOCATED:
            fact = facts[entry.attempt]
            name = key(fact, entry.gpu)
            held[name].append(entry)
            jobs[name].add(fact.span.job)
    for fact in facts.values():
        for use in fact.uses:
            name = key(fact, use.gpu)
            idle[name] += use.idle_ms * parts[fact.span.id]
            if use.energy_mj is not None:
                energy[name] = energy.get(name, 0.0) + use.energy_mj / 1000 * parts[fact.span.id]
    for one in history.daily_totals:
        if one.box in ALLOCATED and by != "job":
            names = {
                "user": one.user,
                "project": one.project or "-",
                "queue": one.queue or "-",
                "gpu": index.get(one.gpu, one.gpu),
            }
            held[names[by]].append(
                LedgerEntry(
                    gpu=one.gpu, box=one.box, cause=one.cause, attempt=None, price=one.price, ms=one.ms
                )
            )
    lines = []
    for name, mine in held.items():
        totals = box_totals(mine)
        lines.append(
            GroupLine(
                key=name,
                jobs=len(jobs[name]),
                gpu_seconds=totals.allocated / 1000,
                productive_gpu_seconds=totals.of(Box.PROD) / 1000,
                wasted_gpu_seconds=totals.of(*WASTED) / 1000,
                idle_gpu_seconds=round(idle[name] / 1000, 3),
                kwh=energy[name] / J_PER_KWH if name in energy else None,
                cost=total_cost(mine),
                wasted_cost=total_cost([entry for entry in mine if entry.box in WASTED]),
            )
        )
    return sorted(lines, key=lambda line: (-line.gpu_seconds, line.key))


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
    least = totals.capacity / 1000 / 1000  # what is less than a thousandth is not worth a line
    return [one for one in found[:ADVICE] if one.gpu_seconds > least]

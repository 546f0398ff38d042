"""Groups of a cost report: the ledger by user, project, queue, job or GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from leptond.core.accounting.ledger import ALLOCATED, WASTED, Box, LedgerEntry, box_totals, total_cost
from leptond.core.accounting.prices import J_PER_KWH
from leptond.core.accounting.report_types import (
    AttemptRecord,
    DailyTotal,
    GroupBy,
    GroupLine,
    LedgerHistory,
)


class _Group:
    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.jobs: set[int] = set()
        self.idle_ms = 0.0
        self.joules: float | None = None

    def line(self, key: str) -> GroupLine:
        totals = box_totals(self.entries)
        return GroupLine(
            key=key,
            jobs=len(self.jobs),
            gpu_seconds=totals.allocated / 1000,
            productive_gpu_seconds=totals.of(Box.PROD) / 1000,
            wasted_gpu_seconds=totals.of(*WASTED) / 1000,
            idle_gpu_seconds=round(self.idle_ms / 1000, 3),
            kwh=self.joules / J_PER_KWH if self.joules is not None else None,
            cost=total_cost(self.entries),
            wasted_cost=total_cost([entry for entry in self.entries if entry.box in WASTED]),
        )


def group_lines(
    by: GroupBy, entries: Sequence[LedgerEntry], history: LedgerHistory, parts: Mapping[str, float]
) -> list[GroupLine]:
    """Return a line for each group that held GPUs, the largest first.

    `parts`: by attempt id, the part of it that lies within the window. Daily totals have no jobs."""
    attempts = {one.span.id: one for one in history.attempts}
    index = {device.gpu: str(device.index) for device in history.devices}
    groups: dict[str, _Group] = defaultdict(_Group)
    for entry in entries:
        if entry.attempt is not None and entry.box in ALLOCATED:
            one = attempts[entry.attempt]
            group = groups[_key(by, one, entry.gpu, index)]
            group.entries.append(entry)
            group.jobs.add(one.span.job)
    for one in attempts.values():
        for use in one.uses:
            group = groups[_key(by, one, use.gpu, index)]
            group.idle_ms += use.idle_ms * parts[one.span.id]
            if use.energy_mj is not None:
                group.joules = (group.joules or 0.0) + use.energy_mj / 1000 * parts[one.span.id]
    for day in history.daily_totals if by != "job" else ():
        if day.box in ALLOCATED:
            groups[_daily_key(by, day, index)].entries.append(
                LedgerEntry(
                    gpu=day.gpu, box=day.box, cause=day.cause, attempt=None, price=day.price, ms=day.ms
                )
            )
    lines = [group.line(key) for key, group in groups.items() if group.entries]
    return sorted(lines, key=lambda line: (-line.gpu_seconds, line.key))


def _key(by: GroupBy, one: AttemptRecord, gpu: str, index: Mapping[str, str]) -> str:
    match by:
        case "user":
            return one.user
        case "project":
            return one.project or "-"
        case "queue":
            return one.queue or "-"
        case "job":
            return f"{one.span.job} {one.name}"
        case "gpu":
            return index.get(gpu, gpu)


def _daily_key(by: GroupBy, day: DailyTotal, index: Mapping[str, str]) -> str:
    names = {"user": day.user, "project": day.project or "-", "queue": day.queue or "-"}
    return names[by] if by in names else index.get(day.gpu, day.gpu)

"""The screen of `leptonctl top`: a picture made of values, without a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leptond.cli.framework.layout import GAP, Column, fit, shortened
from leptond.cli.framework.terminal import clean
from leptond.cli.text import phrases
from leptond.core.jobs.states import LIVE
from leptond.core.jobs.timespec import format_duration

BARS = " ▁▂▃▄▅▆▇█"
HELP = "↑↓ select  c cancel  h hold/release  +/- priority  f follow  q quit"

Segment = tuple[str, str]
"""A text and its style (a rich style; empty: none)."""
Line = list[Segment]


@dataclass
class Picture:
    """The state of the screen. `armed` is the job whose cancel waits for the second key; `following` shows
    the log of the selected job in the whole lower half."""

    status: Mapping[str, Any] | None = None
    queue: Sequence[Mapping[str, Any]] = ()
    history: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    log: Sequence[str] = ()
    selected: int | None = None
    armed: int | None = None
    following: bool = False
    note: str = ""
    stale: str = ""

    def move(self, by: int) -> None:
        """Select another job, `by` rows further."""
        ids = [int(job["id"]) for job in self.queue]
        if not ids:
            self.selected = None
            return
        at = ids.index(self.selected) if self.selected in ids else -1 if by > 0 else 0
        self.selected = ids[max(0, min(len(ids) - 1, at + by))]
        self.armed = None

    def job(self) -> Mapping[str, Any] | None:
        """The selected job, while it is in the queue."""
        return next((job for job in self.queue if job["id"] == self.selected), None)


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last `width` values, each 0 to 1, as bars; a dot where nothing is known.

    >>> sparkline([0.0, 0.5, None, 1.0], 5)
    '·▁▄·█'
    """
    shown = list(values)[-width:]
    text = "".join("·" if one is None else BARS[max(1, min(8, round(one * 8)))] for one in shown)
    return "·" * (width - len(text)) + text


def draw(picture: Picture, width: int, height: int) -> list[Line]:
    """Exactly `height` lines of at most `width` characters."""
    lines = [_head(picture)]
    status = picture.status
    if status is None:
        lines.append([(picture.stale or "connecting", "yellow")])
    else:
        lines += [_gpu(gpu, picture, width) for gpu in status["gpus"]]
        lines.append([])
        left = height - len(lines) - 1
        log_rows = 0 if picture.job() is None else max(3, left // (1 if picture.following else 3))
        queue_rows = max(2, left - log_rows)
        if picture.following and picture.job() is not None:
            queue_rows = 0
        lines += _queue(picture, queue_rows, width)
        if log_rows:
            lines += _log(picture, height - len(lines) - 1)
    lines = lines[: height - 1]
    lines += [[] for _ in range(height - 1 - len(lines))]
    lines.append([(picture.note or HELP, "reverse" if picture.note else "dim")])
    return [_fit(line, width) for line in lines]


def _fit(line: Line, width: int) -> Line:
    fitted, room = [], width
    for text, style in line:
        if room <= 0:
            break
        shown = clean(text)[:room]
        fitted.append((shown, style))
        room -= len(shown)
    return fitted


def _head(picture: Picture) -> Line:
    status = picture.status
    line: Line = [("leptond", "bold")]
    if status is None:
        return line
    counts = status["counts"]
    running = sum(counts.get(state, 0) for state in LIVE)
    busy = sum(1 for gpu in status["gpus"] if gpu.get("job_id") is not None)
    line.append((f"  {running} running, {counts.get('pending', 0)} waiting, ", ""))
    line.append((f"{busy}/{len(status['gpus'])} GPUs busy", ""))
    if status.get("oldest_wait_s"):
        line.append((f", longest wait {format_duration(status['oldest_wait_s'])}", ""))
    failed = status.get("failed_today", len(status.get("failed_recently") or ()))
    if failed:
        line.append((f", {failed} failed today", "red"))
    if picture.stale:
        line.append((f"  {picture.stale}", "bold yellow"))
    return line


def _gpu(gpu: Mapping[str, Any], picture: Picture, width: int) -> Line:
    status = picture.status or {}
    holder = next((job for job in status["running"] if job["id"] == gpu.get("job_id")), None)
    use = gpu.get("utilization")
    state = phrases.state_of_gpu(gpu)
    style = {"busy": "green", "free": "dim"}.get(state, "red")
    who = f"{holder['ref']} {holder['name']} ({holder['user']})" if holder is not None else state
    return [
        (f"{gpu['index']:>3} ", "bold"),
        (f"{gpu['name']:<18.18} ", ""),
        (sparkline(picture.history.get(gpu["uuid"], ()), max(10, min(60, width - 80))), "cyan"),
        (f" {'  -' if use is None else format(use, '4.0%'):>4} ", ""),
        (f"{phrases.memory_of(gpu):>21} ", ""),
        (who, style),
    ]


_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6, drop=2),
    Column("GPUS"),
    Column("STATE"),
    Column("TIME", right=True, drop=1),
    Column("WHY", fold=True),
)


def _queue(picture: Picture, rows: int, width: int) -> list[Line]:
    if rows <= 0:
        return []
    jobs = list(picture.queue)
    at = next((i for i, job in enumerate(jobs) if job["id"] == picture.selected), 0)
    first = max(0, min(at - (rows - 1) // 2, len(jobs) - (rows - 1)))
    shown = jobs[first : first + rows - 1]
    table = [[clean(cell) for cell in _cells(job)] for job in shown]
    wanted = [max(len(column.head), *(len(row[i]) for row in table), 0) for i, column in enumerate(_COLUMNS)]
    widths = fit(_COLUMNS, wanted, width)
    head: Line = [(_aligned([column.head for column in _COLUMNS], widths), "dim")]
    if not jobs:
        return [head, [("        nothing is queued", "dim")]]
    return [head, *(_row(job, _aligned(row, widths), picture) for job, row in zip(shown, table, strict=True))]


def _cells(job: Mapping[str, Any]) -> list[str]:
    return [
        str(job["ref"]),
        str(job["name"]),
        str(job["user"]),
        phrases.gpus_of(job, table=True),
        "held" if job.get("held") else str(job["state"]),
        phrases.span(phrases.time_of(job), table=True),
        phrases.reason_of(job),
    ]


def _aligned(cells: Sequence[str], widths: Mapping[int, int]) -> str:
    """The cells of a row in their columns; a reason that is too long ends with dots."""
    parts = []
    for at, width in widths.items():
        cell, column = cells[at], _COLUMNS[at]
        if column.fold and len(cell) > width:
            cell = f"{cell[: max(0, width - 1)]}…"
        elif column.shorten:
            cell = shortened(cell, width)
        parts.append(cell.rjust(width) if column.right else cell.ljust(width))
    return (" " * GAP).join(parts)


def _row(job: Mapping[str, Any], text: str, picture: Picture) -> Line:
    state = "held" if job.get("held") else str(job["state"])
    if picture.armed == job["id"]:
        return [(text, "reverse red")]
    chosen = job["id"] == picture.selected
    return [(text, "reverse" if chosen else {"running": "green", "pending": ""}.get(state, "yellow"))]


def _log(picture: Picture, rows: int) -> list[Line]:
    job = picture.job()
    assert job is not None
    title: Line = [(f"── output of {job['ref']} {job['name']} ", "dim")]
    return [title, *([(line, "")] for line in list(picture.log)[-max(0, rows - 1) :])]

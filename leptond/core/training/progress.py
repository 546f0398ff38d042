"""Progress messages of jobs and marker lines, and what follows from them. Pure."""

from __future__ import annotations

import math
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond.core.jobs.model import Attempt, Knob, MetricName
from leptond.core.jobs.states import AttemptState

CURVE_POINTS = 2000
"""Most points kept of a job's curve."""

MARKER = "::leptond "
"""Prefix of an output line that reports progress: ``::leptond step=120 total=2000 loss=1.83``."""

EVENT_LEAST_S = 10.0
EVENT_SHARE = 0.02

Step = Annotated[int, Meta(ge=0, le=2**53)]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that is durably on disk. `at` is UTC seconds."""

    step: Step
    at: float


class ProgressMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A datagram with the whole state of the reporting process, or (`line`) marker lines that its attempt
    printed, without their prefix. A metric of None is not a finite number. `rungs`: the sweep's metric at the
    rungs passed, with its step."""

    v: int
    attempt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$", max_length=32)]
    at: float = 0.0
    line: Annotated[str, Meta(max_length=4096)] | None = None
    step: Step | None = None
    total: Step | None = None
    first_at: float | None = None
    first_step: Step | None = None
    checkpoint: Checkpoint | None = None
    metrics: Annotated[dict[MetricName, float | None], Meta(max_length=64)] = {}
    knobs: Annotated[dict[MetricName, Knob], Meta(max_length=32)] = {}
    tuned: Annotated[int, Meta(ge=0, le=2**53)] = 0
    rungs: Annotated[dict[Step, tuple[Step, float | None]], Meta(max_length=64)] = {}


_decoder = msgspec.json.Decoder(ProgressMessage)
_WORD = re.compile(r"(?<!\S)([A-Za-z_][A-Za-z0-9_./-]{0,63})=(\S+)")


def decode(data: bytes) -> list[ProgressMessage]:
    """Decode a datagram: one message, or one for each marker line in it. Raises ValueError."""
    try:
        report = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if report.line is None:
        return [report]
    return [parse_marker(report, line) for line in report.line.splitlines()]


def parse_marker(report: ProgressMessage, line: str) -> ProgressMessage:
    """Parse one marker line of `report`: ``step``, ``total`` and ``checkpoint`` are whole numbers, every
    other ``name=number`` is a metric, and other words are skipped.

    >>> message = ProgressMessage(v=1, attempt="0" * 32, at=5.0)
    >>> parse_marker(message, "::leptond step=3 total=9 loss=1.5").metrics
    {'loss': 1.5}
    """
    whole: dict[str, int] = {}
    metrics: dict[str, float | None] = {}
    for name, text in _WORD.findall(line):
        try:
            number = float(text)
        except ValueError:
            continue
        if name not in ("step", "total", "checkpoint"):
            if len(metrics) < 32:
                metrics[name] = number if math.isfinite(number) else None
        elif math.isfinite(number) and number == int(number) and 0 <= number <= 2**53:
            whole[name] = int(number)
    saved = whole.get("checkpoint")
    return ProgressMessage(
        v=report.v,
        attempt=report.attempt,
        at=report.at,
        step=whole.get("step"),
        total=whole.get("total"),
        checkpoint=Checkpoint(step=saved, at=report.at) if saved is not None else None,
        metrics=metrics,
    )


class ProgressBatch(msgspec.Struct, kw_only=True):
    """Messages of one attempt since the last write: the newest state, and the points of its curve."""

    latest: ProgressMessage
    points: list[ProgressMessage] = []

    def add(self, report: ProgressMessage) -> None:
        """Add a message. Fields that it leaves out stay as they were."""
        self.latest = merged(self.latest, report)
        if report.metrics:
            self.points.append(report)


def new_batch(report: ProgressMessage) -> ProgressBatch:
    """Return a batch of one message."""
    return ProgressBatch(latest=report, points=[report] if report.metrics else [])


def merged(old: ProgressMessage, new: ProgressMessage) -> ProgressMessage:
    """Return `new`, with the fields that it leaves out from `old`. The first step and the highest version
    stay."""
    return ProgressMessage(
        v=new.v,
        attempt=new.attempt,
        at=max(old.at, new.at),
        step=new.step if new.step is not None else old.step,
        total=new.total if new.total is not None else old.total,
        first_at=old.first_at if old.first_at is not None else new.first_at,
        first_step=old.first_step if old.first_step is not None else new.first_step,
        checkpoint=new.checkpoint if new.checkpoint is not None else old.checkpoint,
        metrics={**old.metrics, **new.metrics},
        knobs=new.knobs or old.knobs,
        tuned=max(old.tuned, new.tuned),
        rungs={**old.rungs, **new.rungs},
    )


def advances(attempt_step: int | None, checkpoint_step: int | None, report: ProgressMessage) -> bool:
    """Return True if a message shows that the training moves: another step, or another checkpoint."""
    moved = report.step is not None and report.step != attempt_step
    saved = report.checkpoint is not None and report.checkpoint.step != checkpoint_step
    return moved or saved


def event_due(first_at: float, last_event_at: float | None, now: float) -> bool:
    """Return True if progress deserves an event now: the first does, then one whenever the attempt has grown
    by a fiftieth since the last, at least ten seconds apart. A day's training makes about 300.

    >>> event_due(0.0, None, 0.0), event_due(0.0, 5.0, 14.0), event_due(0.0, 1000.0, 1021.0)
    (True, False, True)
    """
    if last_event_at is None:
        return True
    return now - last_event_at >= max(EVENT_LEAST_S, EVENT_SHARE * (last_event_at - first_at))


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Speed of an attempt, and its remaining time in seconds; None where not known."""

    steps_per_s: float | None = None
    left_s: float | None = None


def pace(attempt: Attempt, now: float) -> Pace:
    """Compute the mean speed of an attempt since its first message, and its remaining time. Steps done before
    a resume do not count."""
    if None in (attempt.step, attempt.first_step, attempt.progress_at, attempt.first_progress_at):
        return Pace()
    assert attempt.step is not None
    assert attempt.first_step is not None
    assert attempt.progress_at is not None
    assert attempt.first_progress_at is not None
    done, took_s = attempt.step - attempt.first_step, attempt.progress_at - attempt.first_progress_at
    if done <= 0 or took_s <= 0:
        return Pace()
    rate = done / took_s
    if attempt.total_steps is None or attempt.state is AttemptState.ENDED:
        return Pace(steps_per_s=rate)
    left_s = (attempt.total_steps - attempt.step) / rate - (now - attempt.progress_at)
    return Pace(steps_per_s=rate, left_s=max(0.0, left_s))


def curve_point(stride: int, seen: int, kept: int, limit: int = CURVE_POINTS) -> tuple[bool, int]:
    """Return (True if message number `seen`, from 0, goes into a curve of `kept` points; the stride from then
    on). The stride doubles when the curve is full; the caller then drops points at no multiple of it.

    >>> curve_point(1, 5, 5), curve_point(4, 6, 3), curve_point(1, 2000, 2000), curve_point(1, 2001, 2000)
    ((True, 1), (False, 4), (True, 2), (False, 2))
    """
    if seen % stride:
        return False, stride
    if kept >= limit:
        stride *= 2
    return seen % stride == 0, stride

"""What jobs say about themselves: reports, marker lines, and what follows from them."""

import contextlib
import math
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Attempt
from leptond.core.jobs.states import AttemptState
from leptond.core.training import progress
from leptond.core.training.progress import (
    Checkpoint,
    ProgressMessage,
    curve_point,
    decode,
    event_due,
    merged,
    new_batch,
    pace,
)

ID = "0" * 32


def report(**values) -> ProgressMessage:
    return ProgressMessage(v=1, attempt=ID, **values)


def attempt(**values) -> Attempt:
    required = {field.encode_name for field in msgspec.structs.fields(Attempt) if field.required}
    nothing = dict.fromkeys(required) | {"claimed_at": 0.0, "claimed_boot": 0.0, "gpu_ms": 0, "n_gpus": 0}
    nothing |= {"log_bytes": 0, "log_dropped_bytes": 0, "gpus": [], "evidence": [], "boot_id": "b"}
    return msgspec.convert(
        nothing | {"id": ID, "job_id": 1, "number": 1, "state": "running"} | values, Attempt
    )


@given(st.integers(1, 30_000), st.integers(2, 200))
def test_a_curve_is_bounded_and_evenly_spaced(reports, limit):
    stride, kept = 1, []
    for number in range(reports):
        wanted, new = curve_point(stride, number, len(kept), limit)
        assert new in (stride, 2 * stride)
        if new != stride:
            stride = new
            kept = [n for n in kept if n % stride == 0]
        if wanted:
            kept.append(number)
        assert len(kept) <= limit
    assert kept == list(range(0, reports, stride))
    assert reports <= limit or len(kept) >= limit // 2


@given(st.floats(0, 1e9), st.lists(st.floats(0.01, 3600), max_size=400))
def test_events_about_progress_thin_out(first, gaps):
    now = last = None
    count = 0
    for gap in [0.0, *gaps]:
        now = first if now is None else now + gap
        if event_due(first, last, now):
            last, count = now, count + 1
    # ten seconds apart for the first 500 s, then by a fiftieth of the age
    age = now - first
    assert count <= 2 + min(age, 500) / 10 + (math.log(age / 500) / math.log(1.02) if age > 500 else 0)


WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(
    lambda w: w not in ("step", "total", "checkpoint", "nan", "inf", "infinity")
)


@given(
    st.dictionaries(WORDS, st.floats(allow_nan=True, allow_infinity=True), max_size=8),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
)
def test_a_marker_line_says_what_it_says(metrics, step, total):
    line = f"step={step} total={total} checkpoint={step} said=yes " + " ".join(
        f"{name}={value!r}" for name, value in metrics.items()
    )
    (got,) = decode(msgspec.json.encode({"v": 1, "attempt": ID, "at": 7.0, "line": line}))
    assert (got.step, got.total, got.checkpoint) == (step, total, Checkpoint(step=step, at=7.0))
    assert got.metrics == {n: v if math.isfinite(v) else None for n, v in metrics.items()}


@pytest.mark.parametrize(
    "line", ["", "step", "step=", "step=x", "step=-1", "step=1.5", "step=inf", "=3", "step=1e300", "a b c"]
)
def test_a_marker_line_of_nonsense_says_nothing(line):
    got = progress.parse_marker(report(), line)
    assert (got.step, got.total, got.checkpoint, got.metrics) == (None, None, None, {})


def test_marker_lines_that_come_together_are_messages_of_their_own():
    lines = "\n".join(f"step={step} total=3 loss={step}" for step in (1, 2, 3))
    got = decode(msgspec.json.encode({"v": 1, "attempt": ID, "at": 7.0, "line": lines}))
    assert [(one.step, one.metrics["loss"], one.at) for one in got] == [(1, 1, 7), (2, 2, 7), (3, 3, 7)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"v": 1}',
        b'{"v": 1, "attempt": "x"}',
        b'{"v": 1, "attempt": "%s", "step": -1}' % ID.encode(),
        b'{"v": 1, "attempt": "%s", "metrics": {"a b": 1}}' % ID.encode(),
        b'{"v": 1, "attempt": "%s", "at": NaN}' % ID.encode(),
        b"\xff",
    ],
)
def test_what_is_no_report_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_refused(data):
    with contextlib.suppress(ValueError):
        decode(data)


def test_what_a_report_leaves_unsaid_stays():
    old = report(
        at=1.0, step=1, total=9, first_at=1.0, first_step=1, metrics={"loss": 2.0, "lr": 0.1}, tuned=3
    )
    new = report(at=2.0, metrics={"loss": 1.0}, checkpoint=Checkpoint(step=1, at=2.0))
    both = merged(old, new)
    assert (both.step, both.total, both.at, both.first_at, both.tuned) == (1, 9, 2.0, 1.0, 3)
    assert both.metrics == {"loss": 1.0, "lr": 0.1}
    assert both.checkpoint == Checkpoint(step=1, at=2.0)
    collected = new_batch(old)
    collected.add(new)
    assert [point.metrics["loss"] for point in collected.points] == [2.0, 1.0]


def test_the_time_left_is_told_from_what_this_attempt_did():
    # resumed at 800: 100 steps in 50 s, 100 to go
    one = attempt(first_step=800, step=900, total_steps=1000, first_progress_at=1000.0, progress_at=1050.0)
    assert pace(one, 1060.0).steps_per_s == pytest.approx(2.0)
    assert pace(one, 1060.0).left_s == pytest.approx(40.0)
    assert pace(one, 9999.0).left_s == 0.0
    assert pace(msgspec.structs.replace(one, state=AttemptState.ENDED), 1060.0).left_s is None
    assert pace(attempt(step=3, progress_at=1.0), 2.0) == progress.Pace()
    assert pace(msgspec.structs.replace(one, step=800), 1060.0) == progress.Pace()

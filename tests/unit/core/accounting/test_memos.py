"""Memos: what samples, retries and back-off add up to."""

import pytest

from leptond.core.accounting.ledger import (
    AttemptSpan,
    Box,
    LedgerEntry,
    LedgerInterval,
    box_totals,
)
from leptond.core.accounting.memos import memos_of
from leptond.core.accounting.report_types import AttemptRecord, Device, LedgerHistory, SampledUse

GPU = "GPU-0"
PRICE = 3_600_000  # 3.6 an hour: 0.001 a second


def record(number=1, job=1, **more):
    span = {"id": f"{job}.{number}", "job": job, "gpus": [GPU], "claimed": 0, "start": 0, "end": 10_000}
    span |= more.pop("span", {})
    fields = {
        "number": number, "name": "x", "user": "ana", "project": None, "queue": None, "run_s": 10.0,
        "retries_saved": 0, "uses": (), "progress_known": True,
    }  # fmt: skip
    return AttemptRecord(span=AttemptSpan(**span), **(fields | more))


def memos(*records, entries=(), intervals=(), parts=None, now=100_000):
    device = Device(gpu=GPU, index=0, name="x", memory_bytes=1000, simulated=True)
    history = LedgerHistory(service=(), queue=(), prices=(), attempts=records, devices=(device,))
    parts = {one.span.id: 1.0 for one in records} if parts is None else parts
    return memos_of(history, entries, box_totals(entries), parts, intervals, now)


def entry(ms, box=Box.PROD, cause="", attempt="1.1", price=PRICE):
    return LedgerEntry(gpu=GPU, box=box, cause=cause, attempt=attempt, price=price, ms=ms)


def sampled(**more):
    return SampledUse(attempt_id="1.1", gpu=GPU, **more)


def test_idle_time_is_scaled_to_the_window_and_has_a_cost():
    one = record(uses=[sampled(sampled_ms=8000, idle_ms=4000, max_utilization=0.5)])
    found = memos(one, entries=[entry(5000)], parts={"1.1": 0.5})
    assert (found.sampled_gpu_seconds, found.idle_gpu_seconds) == (4.0, 2.0)
    assert found.idle_ratio == pytest.approx(2.0 / 5.0)
    assert found.idle_cost == pytest.approx(0.002)
    assert found.never_used_gpu_seconds == 0.0


def test_nothing_sampled_is_not_nothing_idle():
    found = memos(record(), entries=[entry(5000)])
    assert (found.idle_ratio, found.idle_cost, found.unused_memory) == (None, None, None)


def test_a_cost_is_unknown_once_a_price_is_missing():
    one = record(uses=[sampled(sampled_ms=10, idle_ms=10)], retries_saved=1)
    found = memos(one, entries=[entry(5000, price=None)])
    assert (found.idle_cost, found.retries_saved_cost) == (None, None)
    assert found.retries_saved_gpu_seconds == 10.0


def test_gpus_that_were_never_used_and_memory_that_was_not():
    one = record(uses=[sampled(sampled_ms=1, max_utilization=0.04, max_memory_bytes=250)])
    found = memos(one, entries=[entry(6000)])
    assert found.never_used_gpu_seconds == 6.0
    assert found.unused_memory == pytest.approx(0.75)


def test_what_lies_outside_of_the_window_saves_nothing_in_it():
    one = record(retries_saved=2, spared_ms=7000)
    assert memos(one, entries=[entry(1)]).retries_saved_gpu_seconds == 20.0
    found = memos(one, entries=[entry(1)])
    assert (found.stopped_early, found.stopped_early_gpu_seconds) == (1, 7.0)
    assert found.stopped_early_cost == pytest.approx(0.007)
    outside = memos(one, parts={"1.1": 0.0})
    assert (outside.retries_saved, outside.stopped_early) == (0, 0)


def test_starts_without_progress_are_counted_and_undecided_time_is_named():
    never, silent = record(number=1, span={"start": None}), record(number=2, progress_known=False)
    found = memos(never, silent, record(number=3), entries=[entry(4000, cause="undecided"), entry(1000)])
    assert found.start_unknown == 1
    assert found.undecided_gpu_seconds == 4.0


def empty(begin, end):
    return LedgerInterval(gpu=GPU, begin=begin, end=end, box=Box.EMPTY, cause="", attempt=None, price=None)


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ({"startable": 30_000, "claimed": 30_000, "start": 30_000, "end": None}, 20.0),
        ({"startable": None, "claimed": 30_000, "start": None, "end": None}, 50.0),
        ({"startable": 10_000, "claimed": 10_000, "start": 10_000, "end": None}, 0.0),
    ],
)
def test_gpus_are_empty_for_a_back_off_until_the_next_try_could_start(again, expected):
    tries = [record(number=1), record(number=2, span=again)]
    found = memos(*tries, intervals=[empty(0, 60_000)], now=100_000)
    assert found.backoff_gpu_seconds == expected


def test_one_empty_gpu_is_not_held_up_twice():
    tries = [
        record(number=n, job=job, span={"startable": 20_000} if n == 2 else {})
        for job in (1, 2)
        for n in (1, 2)
    ]
    assert memos(*tries, intervals=[empty(10_000, 20_000)]).backoff_gpu_seconds == 10.0

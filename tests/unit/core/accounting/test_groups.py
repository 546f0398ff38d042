"""Groups of a cost report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.accounting.groups import group_lines
from leptond.core.accounting.ledger import ALLOCATED, AttemptSpan, Box, LedgerEntry
from leptond.core.accounting.report_types import (
    AttemptRecord,
    DailyTotal,
    Device,
    LedgerHistory,
    SampledUse,
)

DEVICES = [Device(gpu=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(2)]
BY = ["user", "project", "queue", "job", "gpu"]


def record(attempt, job, user, project=None, uses=()):
    span = AttemptSpan(id=attempt, job=job, gpus=["GPU-0"], claimed=0)
    return AttemptRecord(
        span=span, number=1, name="train", user=user, project=project, queue="default", run_s=1.0,
        retries_saved=0, uses=uses, progress_known=True,
    )  # fmt: skip


def entry(attempt, ms, gpu="GPU-0", box=Box.PROD, price=1):
    return LedgerEntry(gpu=gpu, box=box, cause="", attempt=attempt, price=price, ms=ms)


def lines(by, entries, attempts, daily=(), parts=None):
    history = LedgerHistory(
        service=(), queue=(), prices=(), attempts=attempts, devices=DEVICES, daily_totals=daily
    )
    parts = {one.span.id: 1.0 for one in attempts} if parts is None else parts
    return group_lines(by, entries, history, parts)


ATTEMPTS = [record("a", 1, "ana", "vision"), record("b", 2, "bo"), record("c", 2, "bo")]
ENTRIES = [
    entry("a", 1000), entry("a", 500, box=Box.LOST), entry("b", 4000, gpu="GPU-1"), entry("c", 100),
    entry(None, 9000, box=Box.EMPTY), entry("c", 9000, box=Box.GAP),
]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("user", [("bo", 1, 4.1), ("ana", 1, 1.5)]),
        ("project", [("-", 1, 4.1), ("vision", 1, 1.5)]),
        ("queue", [("default", 2, 5.6)]),
        ("job", [("2 train", 1, 4.1), ("1 train", 1, 1.5)]),
        ("gpu", [("1", 1, 4.0), ("0", 2, 1.6)]),
    ],
)
def test_only_held_time_counts_and_the_largest_comes_first(by, expected):
    found = lines(by, ENTRIES, ATTEMPTS)
    assert [(line.key, line.jobs, line.gpu_seconds) for line in found] == expected


def test_waste_idle_time_and_energy_of_a_group():
    uses = [SampledUse(attempt_id="a", gpu="GPU-0", idle_ms=600, energy_mj=7_200_000_000)]
    (line,) = lines("user", ENTRIES[:2], [record("a", 1, "ana", uses=uses)], parts={"a": 0.5})
    assert (line.productive_gpu_seconds, line.wasted_gpu_seconds, line.idle_gpu_seconds) == (1.0, 0.5, 0.3)
    assert line.kwh == pytest.approx(1.0)
    assert lines("user", ENTRIES[:2], [record("a", 1, "ana")])[0].kwh is None


def test_a_group_without_a_price_has_no_cost():
    (line,) = lines("user", [entry("a", 1000), entry("a", 1, price=None)], ATTEMPTS[:1])
    assert (line.cost, line.wasted_cost) == (None, 0.0)


def test_daily_totals_count_but_not_by_job():
    day = DailyTotal(
        gpu="GPU-1", user="cy", project="", queue="", box=Box.FAILED, cause="user", price=1, ms=2000
    )
    free = DailyTotal(gpu="GPU-1", user="", project="", queue="", box=Box.EMPTY, cause="", price=1, ms=9)
    assert [
        (line.key, line.jobs, line.wasted_gpu_seconds) for line in lines("user", (), (), [day, free])
    ] == [("cy", 0, 2.0)]
    assert [line.key for line in lines("project", (), (), [day])] == ["-"]
    assert [line.key for line in lines("gpu", (), (), [day])] == ["1"]
    assert lines("job", (), (), [day]) == []


@given(
    entries=st.lists(
        st.builds(
            entry, st.sampled_from(["a", "b", "c"]), st.integers(1, 10**6),
            gpu=st.sampled_from(["GPU-0", "GPU-1", "GPU-gone"]), box=st.sampled_from(Box),
        ),
        max_size=30,
    ),
    by=st.sampled_from(BY),
)  # fmt: skip
def test_the_groups_add_up_to_the_held_time(entries, by):
    found = lines(by, entries, ATTEMPTS)
    held = sum(one.ms for one in entries if one.box in ALLOCATED)
    assert sum(line.gpu_seconds for line in found) == pytest.approx(held / 1000)
    assert len({line.key for line in found}) == len(found)
    assert [line.gpu_seconds for line in found] == sorted((x.gpu_seconds for x in found), reverse=True)

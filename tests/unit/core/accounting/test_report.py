"""The cost report of a window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.accounting.ledger import (
    MS_PER_HOUR,
    AttemptSpan,
    Box,
    IdleCause,
    IdleCauseChange,
    PriceChange,
    ServiceChange,
)
from leptond.core.accounting.prices import Rates
from leptond.core.accounting.report import ADVICE, cost_report
from leptond.core.accounting.report_types import (
    AttemptRecord,
    DailyTotal,
    Device,
    IdleEnergy,
    LedgerHistory,
    SampledUse,
)
from leptond.core.jobs.model import State

GPU = "GPU-0"
HOUR = MS_PER_HOUR
ENDS = [State.SUCCEEDED, State.FAILED, State.CANCELLED]


def device(price=2_000_000, **more):
    fields = {"gpu": GPU, "index": 0, "name": "NVIDIA L4", "memory_bytes": 1, "simulated": False}
    return Device(**(fields | more), price=price, currency="USD", source="test", as_of="2026-01")


def record(number=1, job=1, *, uses=(), progress_known=True, retries_saved=0, **span):
    fields = {"id": f"{job}.{number}", "job": job, "gpus": [GPU], "claimed": 0, "start": 0, "end": HOUR}
    fields |= {"cause": "ok", "job_state": State.SUCCEEDED} | span
    return AttemptRecord(
        span=AttemptSpan(**fields), number=number, name="x", user="ana", project=None, queue=None,
        run_s=1.0, retries_saved=retries_saved, uses=uses, progress_known=progress_known,
    )  # fmt: skip


def report(*records, end=2 * HOUR, queue=(), rates=Rates(), by=None, **more):  # noqa: B008
    fields = {
        "service": [ServiceChange(gpu=GPU, at=0)],
        "queue": queue,
        "prices": [PriceChange(gpu=GPU, at=0, micros=2_000_000)],
        "attempts": records,
        "devices": [device()],
    }
    return cost_report(LedgerHistory(**(fields | more)), 0, end, now=end, rates=rates, by=by)


def box(found, name):
    return next(line for line in found.boxes if line.box is name)


def test_an_hour_of_work_and_an_empty_hour():
    found = report(record(), by="user")
    assert found.capacity_gpu_seconds == 7200.0
    assert found.paid == pytest.approx(4.0)
    assert (box(found, Box.PROD).gpu_seconds, box(found, Box.PROD).share) == (3600.0, 0.5)
    assert found.capacity_goodput == 0.5
    assert found.cost_per_useful_gpu_hour == pytest.approx(4.0)
    assert [(one.key, one.cost) for one in found.groups] == [("ana", pytest.approx(2.0))]
    assert [(one.model, one.gpus, one.per_gpu_hour) for one in found.prices] == [("NVIDIA L4", 1, 2.0)]
    assert found.detail_since_s is None
    assert found.advice == [], "nothing was wasted"


def test_without_a_price_there_is_time_and_no_cost():
    found = report(record(), prices=[], devices=[device(price=None)])
    assert (found.paid, found.unpriced_gpu_seconds) == (None, 7200.0)
    assert found.prices[0].per_gpu_hour is None


def test_days_whose_details_are_gone_are_in_the_boxes_and_not_in_the_memos():
    day = DailyTotal(
        gpu=GPU, user="ana", project="", queue="", box=Box.PROD, cause="", price=2_000_000, ms=HOUR
    )
    late = record(claimed=HOUR, start=HOUR, end=2 * HOUR)
    found = report(late, daily_totals=[day], detail_since=HOUR)
    assert found.detail_since_s == HOUR / 1000
    assert found.capacity_gpu_seconds == 7200.0
    assert box(found, Box.PROD).gpu_seconds == 7200.0
    assert found.paid == pytest.approx(4.0)


def test_retries_by_the_class_of_the_end_before():
    failed = {"cause": "infra-node", "end": HOUR // 2}
    found = report(
        record(1, **failed),
        record(2, claimed=HOUR // 2, start=HOUR // 2, end=HOUR),
        record(1, job=2, start=HOUR, end=2 * HOUR, cause="user", job_state=State.FAILED, job_cause="user"),
    )
    (line,) = found.retries
    assert (line.cause, line.retried, line.succeeded) == ("infra-node", 1, 1)
    assert line.wasted_gpu_seconds == 1800.0


def test_interruptions_set_the_interval_of_checkpoints():
    found = report(record(cause="preempted", end=HOUR)).checkpoints
    assert (found.interruptions, found.mean_time_between_s) == (1, 3600.0)
    assert found.interval_s_for_30_s == pytest.approx((2 * 30 * 3600) ** 0.5)
    assert report(record()).checkpoints.interval_s_for_30_s is None


def test_hand_overs_of_the_window_without_downtime_of_the_daemon():
    found = report(
        record(startable=0, start=10),
        record(1, job=2, startable=HOUR, claimed=HOUR, start=HOUR + 30, end=HOUR + 40),
        record(1, job=3, startable=HOUR, claimed=HOUR, start=HOUR + 9000, gap_cause="daemon-down"),
        record(1, job=4, start=None, end=None, job_state=State.RUNNING, cause=""),
    ).hand_over
    assert (found.starts, found.p50_s, found.p99_s) == (3, 0.03, 0.03)
    assert report().hand_over.p50_s is None


def test_energy_is_of_the_window_and_costs_with_a_tariff():
    uses = [SampledUse(attempt_id="1.1", gpu=GPU, sampled_ms=1, energy_mj=3_600_000_000)]
    idle = [
        IdleEnergy(hour=1, gpu=GPU, energy_mj=1_800_000_000, energy_source="counter"),
        IdleEnergy(hour=5, gpu=GPU, energy_mj=9, energy_source="counter"),
    ]
    found = report(record(uses=uses), idle_energy=idle, rates=Rates(tariff=0.2)).energy
    assert (found.kwh, found.idle_kwh) == (1.0, 0.5)
    assert (found.cost, found.sources) == (pytest.approx(0.2), ["counter", "power"])
    assert report(record()).energy is None


def test_advice_names_the_cause_and_the_largest_come_first():
    queue = [IdleCauseChange(at=HOUR, idle_cause=IdleCause.FITS, cause="kept for job 9")]
    failed = record(cause="user", job_state=State.FAILED, job_cause="user")
    found = report(failed, end=4 * HOUR, queue=queue)
    assert [one.gpu_seconds for one in found.advice] == [3 * 3600.0, 3600.0]
    assert "(mostly: kept for job 9)" in found.advice[0].sentence
    assert found.advice[0].cost == pytest.approx(6.0)


@given(
    cuts=st.lists(st.integers(0, 2 * HOUR), min_size=2, max_size=8).map(sorted),
    states=st.lists(
        st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]), min_size=8, max_size=8
    ),
)
def test_the_boxes_and_their_causes_add_up(cuts, states):
    records = [
        record(1, job=n, claimed=a, start=a, end=b, job_state=state, job_cause="x")
        for n, (a, b, state) in enumerate(zip(cuts[::2], cuts[1::2], states, strict=False))
    ]
    found = report(*records)
    assert sum(line.gpu_seconds for line in found.boxes) == pytest.approx(found.capacity_gpu_seconds)
    assert sum(line.share for line in found.boxes) == pytest.approx(1.0)
    for line in found.boxes:
        assert sum(cause.gpu_seconds for cause in line.causes) <= line.gpu_seconds + 1e-6
    assert found.paid == pytest.approx(4.0)
    assert len(found.advice) <= ADVICE

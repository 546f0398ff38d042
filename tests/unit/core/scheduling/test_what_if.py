"""A window's jobs under another policy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.accounting.ledger import AttemptSpan
from leptond.core.accounting.report_types import AttemptRecord, Device, LedgerHistory
from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.what_if import PastRun, compare_policies, past_runs, simulate

FIRSTFIT = Policy(name="firstfit")


def run(number, ready_at, gpus, took, **more):
    return PastRun(id=number, ready_at=ready_at, gpus=gpus, run_s=took, **more)


def test_one_after_the_other():
    found = simulate([run(1, 0, 1, 10), run(2, 0, 1, 10)], 1, FIRSTFIT)
    assert (found.jct_s, found.idle_gpu_s) == (15.0, 0.0)


def test_free_gpus_count_only_while_a_job_waits():
    found = simulate([run(1, 0, 1, 10), run(2, 5, 2, 10), run(3, 100, 1, 1)], 2, FIRSTFIT)
    assert found.idle_gpu_s == 5.0
    assert found.jct_s == pytest.approx((10 + 15 + 1) / 3)


def test_shortest_first_beats_first_fit_where_it_should():
    runs = [run(1, 0, 1, 100, limit_s=100.0), run(2, 1, 1, 100, limit_s=100.0), run(3, 2, 1, 1, limit_s=2.0)]
    short = simulate(runs, 1, Policy(name="shortest"))
    assert short.jct_s < simulate(runs, 1, FIRSTFIT).jct_s


def test_a_job_that_is_too_wide_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="does not fit"):
        simulate([run(1, 0, 3, 1)], 2, FIRSTFIT)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 4), st.integers(1, 90)), min_size=1, max_size=25),
    st.sampled_from(["auto", "fifo", "firstfit", "shortest", "easy", "throughput"]),
)
def test_every_job_ends_under_every_policy_and_no_sooner_than_it_can(rows, name):
    runs = [run(i, ready_at, gpus, took, limit_s=took * 3.0) for i, (ready_at, gpus, took) in enumerate(rows)]
    found = simulate(runs, 4, Policy(name=name))
    assert found.jct_s >= sum(one.run_s for one in runs) / len(runs) - 1e-9
    assert found.idle_gpu_s >= 0
    assert found == simulate(list(reversed(runs)), 4, Policy(name=name)), "the same whatever the order"


def fact(job, number, start, end, gpus=1):
    span = AttemptSpan(
        id=f"{job}.{number}", job=job, gpus=["GPU-0"] * gpus, claimed=start, start=start, end=end
    )
    return AttemptRecord(
        span=span,
        number=number,
        name="x",
        user="a",
        project=None,
        queue=None,
        run_s=0.0,
        retries_saved=0,
        uses=(),
        progress_known=False,
        submitted=start - 5000,
        limit_s=1.0,
    )


def history(*facts):
    device = Device(gpu="GPU-0", index=0, name="x", memory_bytes=1, simulated=True)
    return LedgerHistory(service=[], queue=[], prices=[], attempts=facts, devices=[device])


def test_jobs_of_the_window_are_taken_whole_or_not_at_all():
    seen = history(
        fact(1, 1, 10_000, 20_000),
        fact(1, 2, 30_000, 45_000),
        fact(2, 1, 10_000, None),
        fact(3, 1, 1_000, 90_000),
        fact(4, 2, 10_000, 20_000),
    )
    (one,) = past_runs(seen, 5_000, 80_000)
    assert (one.id, one.ready_at, one.run_s, one.limit_s) == (1, 5.0, 25.0, 25.0)


def test_the_comparison_says_what_was_saved():
    seen = history(*(fact(i, 1, 10_000 * i, 10_000 * i + 5000) for i in range(1, 9)))
    found = compare_policies(seen, 0, 10**6, policy=Policy(), other=FIRSTFIT, price=2.0)
    assert (found.jobs, found.policy, found.against) == (8, "auto", "firstfit")
    saved = found.against_idle_gpu_seconds - found.idle_gpu_seconds
    assert found.saved_cost == pytest.approx(saved / 3600 * 2.0)
    assert compare_policies(history(), 0, 10**6, policy=Policy(), other=FIRSTFIT, price=None) is None

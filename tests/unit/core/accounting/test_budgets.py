"""Budgets judged by the worst case."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.accounting.budgets import (
    Budget,
    BudgetRequest,
    BudgetUsage,
    check_budget,
    period_start,
    worst_gpu_hours,
)

MONEY = Budget(scope="user", name="ana", period="month", amount=100.0, gpu_hours=None, action="refuse")
HOURS = Budget(scope="project", name="vision", period="week", amount=None, gpu_hours=10.0, action="warn")


def judged(budget, *asks, price=2.0, **books):
    return check_budget(budget, BudgetUsage(**books), asks, price=price, currency="USD")


def test_the_worst_case_decides():
    assert judged(MONEY, BudgetRequest(gpus=4, limit_s=12.5 * 3600)) is None, (
        "4 x 12.5 h x 2 USD is all of it"
    )
    over = judged(MONEY, BudgetRequest(gpus=4, limit_s=12.6 * 3600))
    assert "100.80 USD" in over.over
    assert "100.00 left of 100.00" in over.over
    assert "--time" in over.hint


def test_what_was_spent_and_what_is_queued_counts():
    assert judged(HOURS, BudgetRequest(gpus=1, limit_s=3600), spent_gpu_hours=4, open_gpu_hours=5) is None
    over = judged(HOURS, BudgetRequest(gpus=1, limit_s=3600, count=2), spent_gpu_hours=4, open_gpu_hours=5)
    assert "2.00 GPU-hours" in over.over
    assert "1.00 left of 10.00 for this week (spent 4.00, queued and running 5.00)" in over.over


def test_a_job_without_a_limit_has_no_worst_case():
    assert "without a time limit" in judged(HOURS, BudgetRequest(gpus=1, limit_s=None)).over
    assert judged(HOURS, BudgetRequest(gpus=0, limit_s=None)) is None, "a job without GPUs costs none"


def test_a_budget_in_money_needs_a_price():
    assert "have no price" in judged(MONEY, BudgetRequest(gpus=1, limit_s=1), price=None).over
    assert judged(HOURS, BudgetRequest(gpus=1, limit_s=1), price=None) is None


@pytest.mark.parametrize(
    ("period", "start"), [("day", "2026-11-25"), ("week", "2026-11-23"), ("month", "2026-11-01")]
)
def test_periods_begin_in_utc(period, start):
    now = datetime(2026, 11, 25, 13, 7, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(period_start(period, now), UTC).date().isoformat() == start


@settings(derandomize=True, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.floats(1, 1e6), st.integers(1, 9)), max_size=4),
    st.floats(0, 50),
    st.floats(0, 50),
)
def test_nothing_within_the_limit_is_refused_and_nothing_beyond_it_passes(rows, spent, open_):
    asks = [BudgetRequest(gpus=gpus, limit_s=limit, count=count) for gpus, limit, count in rows]
    total = spent + open_ + worst_gpu_hours(asks)
    found = judged(HOURS, *asks, spent_gpu_hours=spent, open_gpu_hours=open_)
    if any(ask.gpus for ask in asks) and abs(total - 10) > 1e-6:
        assert (found is not None) == (total > 10)

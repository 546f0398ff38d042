"""Budgets: stored, and what counts against them."""

import pytest

from leptond.base.errors import NotFound
from leptond.core.accounting.budgets import Budget
from leptond.store.accounting import budgets
from tests.support.queue import add, db

__all__ = ["db"]


BUDGET = Budget(scope="user", name="ana", period="month", amount=2.5, gpu_hours=None, action="warn")


def test_a_budget_is_stored_until_it_is_taken_away(db):
    budgets.put(db, BUDGET, by="root", now=1.0)
    assert budgets.every(db) == [BUDGET]
    budgets.remove(db, "user", "ana", by="root", now=2.0)
    assert budgets.every(db) == []
    with pytest.raises(NotFound):
        budgets.remove(db, "user", "ana", by="root", now=3.0)


def test_limits_of_open_jobs_count_also_of_compact_members(db):
    add(db, gpus=2, time_limit_s=3600.0)
    add(db, gpus=1, time_limit_s=3600.0, array="0-999")
    add(db, user="bo", gpus=1, time_limit_s=3600.0)
    used = budgets.books(db, BUDGET, 1.0)
    assert (used.open_gpu_hours, used.spent_gpu_hours) == (1002.0, 0.0)

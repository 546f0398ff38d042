"""Plans that serve all readers, until something has happened."""

import pytest
from msgspec.structs import replace

from leptond.core.scheduling.inputs import Policy
from leptond.store.planning import outlook as module
from leptond.store.planning.outlook import KEPT, MAX_AGE_S, Forecasts
from tests.support.queue import add, db

__all__ = ["db"]


@pytest.fixture
def ask(db):
    """`ask(boot)` is the outlook that a reader gets at that moment."""
    kept = Forecasts()

    def call(boot=10.0, **changes):
        usual = {"unhealthy": {}, "cpu_slots": 8, "policy": Policy(), "anew": False}
        return kept.outlook(db, now=1000.0 + boot, boot=boot, **{**usual, **changes})

    return call


def test_one_outlook_serves_for_a_moment(ask):
    first = ask(10.0)
    assert ask(10.0 + MAX_AGE_S) is first
    assert ask(10.5 + MAX_AGE_S) is not first


def test_an_outlook_of_the_future_is_not_taken(ask):
    assert ask(10.0) is not ask(9.0)


def test_what_happens_ends_it_at_once(ask, db):
    first = ask()
    add(db)
    second = ask()
    assert second is not first
    assert ask() is second


@pytest.mark.parametrize(
    "changes", [{"unhealthy": {"GPU-0": "fan"}}, {"cpu_slots": 4}, {"policy": "half"}, {"anew": True}]
)
def test_another_machine_another_policy_or_a_wish_makes_a_new_one(ask, changes):
    if "policy" in changes:
        changes = {"policy": replace(Policy(), paused=True)}
    first = ask()
    assert ask(**changes) is not first


def test_one_for_another_policy_does_not_take_the_place_of_the_usual(ask):
    usual = ask()
    for slots in range(KEPT - 1):
        ask(cpu_slots=slots)
    assert ask() is usual
    for slots in range(KEPT):
        ask(cpu_slots=100 + slots)
    assert ask() is not usual, "only so many are kept"


def test_the_machine_of_an_outlook_stays_as_it_was(ask):
    ill = {}
    first = ask(unhealthy=ill)
    ill["GPU-0"] = "fan"
    assert ask(unhealthy=ill) is not first


def test_each_part_is_made_once(ask, db, monkeypatch):
    job = add(db, gpus=1, time_limit_s=10.0)
    one = ask()
    assert one.plan(db, 100) is one.plan(db, 100)
    assert [start.id for start in one.plan(db, 100).starts] == [job]
    assert one.inputs(db, 100) is one.inputs(db, 100)
    assert one.inputs(db, 100) is not one.inputs(db, 50)
    assert one.starts(db) is one.starts(db)
    assert one.etas(db, until=job) is one.etas(db, until=job)
    whole = one.etas(db)
    assert one.etas(db, until=99) is whole, "it says more than what is asked for"


def test_few_single_starts_are_kept(ask, db, monkeypatch):
    monkeypatch.setattr(module, "MAX_ETAS", 2)
    one = ask()
    first = one.etas(db, until=1)
    one.etas(db, until=2)
    one.etas(db, until=3)
    assert one.etas(db, until=1) is not first

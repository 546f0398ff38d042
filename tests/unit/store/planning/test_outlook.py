"""Plans that serve all readers, until something has happened."""

import pytest
from msgspec.structs import replace

from leptond.core.scheduling import forecast as forecasts
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


def test_a_reader_that_had_to_wait_takes_what_was_made_meanwhile(ask):
    first = ask(10.0)
    assert ask(9.9) is first
    assert ask(9.5 - MAX_AGE_S) is not first


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
    assert one.eta(db, job) == one.etas(db)[job]
    assert one.etas(db) is one.etas(db)
    assert one.eta(db, 99) is None


def test_what_was_simulated_for_one_job_serves_for_others(ask, db, monkeypatch):
    jobs = [add(db, gpus=2, time_limit_s=10.0) for _ in range(6)]
    passes = []
    plan = forecasts.plan
    monkeypatch.setattr(forecasts, "plan", lambda *args, **more: passes.append(1) or plan(*args, **more))
    one = ask()
    for job in reversed(jobs):
        assert one.eta(db, job).likely.id == job
    assert len(passes) == 3 * len(jobs)
    one.etas(db)
    assert len(passes) == 3 * len(jobs)


@pytest.fixture
def busy(db, monkeypatch):
    """`busy(cost_s)` makes the parts of outlooks cost so much; returns `ask(boot)` and the forecasts."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def make(cost_s):
        kept = Forecasts()

        def call(boot, *, unhealthy=None):
            found = kept.outlook(
                db, now=1000.0 + boot, boot=boot, unhealthy=unhealthy or {}, cpu_slots=8, policy=Policy()
            )
            if not found._plans:
                plan = module.plan
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        module, "plan", lambda inputs: now.__setitem__(0, now[0] + cost_s) or plan(inputs)
                    )
                    found.plan(db, 100)
            return found

        return call, kept

    return make


def test_where_forecasts_would_take_all_of_the_time_readers_get_one_that_is_a_moment_old(busy, db):
    ask, kept = busy(0.1)
    for number in range(200):
        add(db)
        ask(10.0 + number / 100)
    # two seconds: so many as the budget allows, and the one that passes it
    assert kept.made <= 2 * (module.BUDGET / 0.1 + 1) + 1
    newest = ask(12.0)
    add(db)
    assert ask(12.0 + 2 * module.BUSY_AGE_S) is not newest, "it is older than readers get"


def test_where_there_is_time_every_change_is_seen(busy, db):
    ask, kept = busy(0.002)
    for number in range(100):
        add(db)
        ask(10.0 + number / 100)
    assert kept.made == 100


def test_what_is_a_moment_old_is_of_the_same_machine(busy, db):
    ask, _ = busy(0.5)
    first = ask(10.0)
    assert ask(10.1, unhealthy={"GPU-0": "fan"}) is not first
    add(db)
    assert ask(10.2) is first

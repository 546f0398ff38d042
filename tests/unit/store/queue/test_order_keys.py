"""Equal jobs start in the order of their submission, also when the wall clock was set in between."""

import contextlib
import json
import sqlite3
from datetime import UTC, datetime

import msgspec
import pytest

from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.planner import Policy
from leptond.store.database.migrate import migrate
from leptond.store.planning import snapshot
from leptond.store.queue import gpus, jobs, order_keys

T0 = 1_800_000_000.0
DAY = 86400.0


@pytest.fixture
def db():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, data_dir("migrations"))
        db.row_factory = sqlite3.Row
        gpus.sync(
            db,
            [gpus.Found(uuid="GPU-0", index=0, name="x", memory_bytes=1, simulated=True)],
            T0,
        )
        yield db


def submit(db, now, **spec):
    admitted = admit(JobSpec(argv=["true"], gpus=1, **spec), gpus=1, home="/", defaults=Defaults())
    return jobs.submit(db, [admitted], user="ada", now=now, max_pending=100)[0][0].id


def order(db, now, policy):
    """The ids in the order in which the planner would start them, one by one."""
    found = []
    while True:
        decided = snapshot.decide(db, now=now, boot=1.0, unhealthy={}, cpu_slots=0, policy=policy)
        if not decided.starts:
            return found
        found.append(decided.starts[0].id)
        jobs.hold(db, str(found[-1]), by="ada", now=now)


@pytest.mark.parametrize("policy", ["auto", "fifo", "firstfit", "easy", "throughput", "shortest"])
@pytest.mark.parametrize("jump_s", [-3600.0, -3650 * DAY, 3650 * DAY])
def test_a_clock_that_is_set_reorders_no_equal_jobs(db, jump_s, policy):
    order_keys.adopt(db, Policy(name=policy))
    ids = [submit(db, T0), submit(db, T0 + jump_s), submit(db, T0 + jump_s + 60.0), submit(db, T0 + 1.0)]
    assert order(db, T0 + jump_s + 120.0, Policy(name=policy)) == ids


def test_the_order_outlives_an_edit_and_new_figures(db):
    first = submit(db, T0)
    second = submit(db, T0 - DAY)
    third = submit(db, T0 - DAY + 1)
    jobs.edit(db, str(second), changes={"priority": 3}, by="ada", now=T0, if_version=None)
    jobs.edit(db, str(second), changes={"priority": 0}, by="ada", now=T0, if_version=None)
    figures = Policy(name="fifo", priority_step_s=60.0)
    order_keys.adopt(db, figures)
    assert order(db, T0, figures) == [first, second, third]


def test_a_job_with_a_begin_time_between_them_changes_no_order(db):
    first = submit(db, T0)
    submit(db, T0 + 1.0, begin_at=datetime.fromtimestamp(T0 + DAY, UTC))
    second = submit(db, T0 - DAY)
    assert order(db, T0 + 2.0, Policy()) == [first, second]


def test_a_begin_time_that_is_taken_back_counts_no_more(db):
    later = submit(db, T0)
    jobs.edit(db, str(later), changes={"begin_at": T0 + DAY}, by="ada", now=T0, if_version=None)
    jobs.edit(db, str(later), changes={"begin_at": None}, by="ada", now=T0, if_version=None)
    other = submit(db, T0 + 5.0)
    assert order(db, T0 + 10.0, Policy(name="fifo")) == [later, other]


def test_figures_that_are_stored_in_another_order_are_the_same_figures(db):
    """As an older leptond wrote them: nothing is placed again at the first start of a newer one."""
    submit(db, T0)
    figures = Policy(name="easy", priority_step_s=60.0)
    assert order_keys.adopt(db, figures) == 1
    shuffled = json.dumps(dict(sorted(msgspec.to_builtins(figures).items())))
    db.execute("UPDATE meta SET value = ? WHERE key = 'planner_figures'", (shuffled,))
    assert order_keys.adopt(db, figures) == 0
    assert order_keys.adopt(db, Policy(name="fifo")) == 1

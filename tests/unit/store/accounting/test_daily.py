"""Days that are over are added up, and then tell the same without their details."""

import random
import sqlite3

import pytest

from leptond.base.paths import data_dir
from leptond.core.accounting.ledger import Box
from leptond.core.accounting.prices import Rates, price_of
from leptond.core.accounting.report import cost_report
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Identity, JobSpec
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.scheduling.planner import Start
from leptond.store.accounting import daily, ledger
from leptond.store.database.migrate import migrate
from leptond.store.queue import attempts, gpus, jobs

DAY = 86400.0
L4 = "NVIDIA L4"


@pytest.fixture
def db():
    """Ten days of two GPUs: a job of some hours now and then, some across midnight, one drain a day."""
    one = sqlite3.connect(":memory:", isolation_level=None)
    one.row_factory = sqlite3.Row
    one.execute("PRAGMA foreign_keys = ON")
    migrate(one, data_dir("migrations"))
    found = [gpus.Found(uuid=f"GPU-{i}", index=i, name=L4, memory_bytes=1, simulated=True) for i in range(2)]
    gpus.sync(one, found, 0.0)
    ledger.note_prices(one, 0.0, {f"GPU-{i}": (L4, price_of(L4, Rates())) for i in range(2)})
    dice, at = random.Random(1), 1000.0
    while at < 9 * DAY:
        admitted = admit(JobSpec(argv=["x"], gpus=1, project="p"), gpus=2, home="/", defaults=Defaults())
        job = jobs.submit(one, [admitted], user=dice.choice("ab"), now=at, max_pending=9)[0][0].ids[0]
        run(one, job, at + dice.random(), at + dice.uniform(100, 40_000), code=dice.choice([0, 0, 1]))
        at += dice.uniform(40_000, 60_000)
        gpus.drain(one, "GPU-1", "fan", "me", at - 100)
        gpus.drain(one, "GPU-1", None, "me", at - 1)
    yield one
    one.close()


def run(db, job, start, end, code):
    attempt = attempts.claim(
        db, Start(id=job, gpus=["GPU-0"]), attempt_id=str(job), now=start, boot=start, boot_id="b"
    ).attempt.id
    if end is None:
        return
    attempts.started(
        db, attempt, shim=Identity(boot_id="b", pid=1, start_ticks=1), now=start, deadline_at=None
    )
    attempts.finish(
        db,
        attempt,
        verdict=classify(Evidence(exit_code=code, run_s=end - start)),
        record=ExitRecord(
            attempt_id=attempt, boot_id="b", exit_code=code, started_at=start, ended_at=end, run_s=end - start
        ),
        now=end,
        boot=end,
        boot_id="b",
        roll=0.0,
    )


def add_up(db, now):
    days = []
    while (found := daily.next_day(db, now)) is not None:
        daily.keep(db, *found)
        days.append(found[0])
    return days


def report(db, begin, end, by="user"):
    history = daily.history(db, begin, end)
    found = cost_report(
        history, round(begin * 1000), round(end * 1000), now=round(end * 1000), rates=Rates(), by=by
    )
    boxes = {line.box: line.gpu_seconds for line in found.boxes}
    assert sum(boxes.values()) == pytest.approx(found.capacity_gpu_seconds, abs=1e-6)
    return boxes, found.paid, {group.key: (group.gpu_seconds, group.cost) for group in found.groups}


@pytest.mark.parametrize("by", ["user", "project", "gpu"])
def test_the_sums_say_what_the_details_said(db, by):
    before = [report(db, a * DAY, b * DAY, by) for a, b in ((0, 10), (2, 5), (0, 3))]
    assert add_up(db, 10 * DAY + 120) == list(range(10))
    assert daily.forget(db, 5)
    assert not daily.forget(db, 5)
    for number in range(1, 9):
        if jobs.find(db, str(number)).ended_at < 5 * DAY:
            jobs.purge(db, str(number), by="me", now=10 * DAY)
    db.execute("DELETE FROM past_attempts WHERE ended_at < ?", (5 * DAY,))
    after = [report(db, a * DAY, b * DAY, by) for a, b in ((0, 10), (2, 5), (0, 3))]
    for (boxes, paid, groups), (boxes_now, paid_now, groups_now) in zip(before, after, strict=True):
        assert boxes_now == pytest.approx(boxes, abs=1e-6)
        assert paid_now == pytest.approx(paid)
        assert groups_now.keys() == groups.keys()
        for key, (held, cost) in groups.items():
            assert groups_now[key] == pytest.approx((held, cost), abs=1e-6)


def test_a_day_waits_for_the_jobs_that_had_gpus_in_it(db):
    admitted = admit(JobSpec(argv=["x"], gpus=1), gpus=2, home="/", defaults=Defaults())
    job = jobs.submit(db, [admitted], user="a", now=9.5 * DAY, max_pending=9)[0][0].ids[0]
    run(db, job, 9.6 * DAY, None, 0)
    assert add_up(db, 20 * DAY) == list(range(9))
    assert daily.first_day(db) == 9
    assert add_up(db, 20 * DAY) == []


def test_counters_grow_and_count_nothing_twice(db):
    def totals(now):
        sums, history, begin = daily.settled(db, now)
        return daily.add_settled(sums, history, begin, max(begin, now - daily.SETTLED_S))

    before = totals(8 * DAY)
    add_up(db, 8 * DAY + 120)
    again = totals(8 * DAY)
    later = totals(10 * DAY)
    assert sum(before.values()) == pytest.approx(2 * 8 * DAY * 1000, abs=2 * 60_000 + 1)
    for box in Box:
        assert again[box] >= before[box]
        assert later[box] >= again[box]
    assert sum(later.values()) == round(2 * (10 * DAY - 60) * 1000)


def test_before_there_is_anything_there_is_nothing_to_add_up():
    one = sqlite3.connect(":memory:", isolation_level=None)
    one.row_factory = sqlite3.Row
    migrate(one, data_dir("migrations"))
    assert daily.next_day(one, 1e9) is None
    assert daily.settled(one, 1e9)[1] is None
    assert daily.counters(one) == (0, 0)
    one.close()

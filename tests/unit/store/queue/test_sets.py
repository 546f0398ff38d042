"""Sets of jobs, changed by a few statements: as if each had been changed alone."""

import random
import time

import pytest

from leptond.core.jobs.model import State
from leptond.store.queue import arrays, jobs, lists, sets
from leptond.store.queue.sets import Changed, Wanted
from tests.support.queue import add, db, empty_queue, lease

__all__ = ["db"]

HOW = {"by": "ana", "now": 5.0}


def cancel(db, wanted=Wanted(), **more):  # noqa: B008 - a frozen value
    return sets.cancel(db, wanted, **{"grace_s": None, "reason": None, **HOW, **more})


def state(db, ref):
    return jobs.find(db, str(ref)).state


def test_all_is_cancelled_and_what_runs_is_stopped(db):
    runs, waits = add(db, gpus=1), add(db)
    array = add(db, array="0-999")
    lease(db, runs, "GPU-0")
    after = add(db, after=[f"{array}_*"], user="bo")
    done = cancel(db, Wanted(owner="ana"), reason="enough")
    assert (done.pending, done.live, done.others, done.more) == (1001, 1, 1, False)
    assert done.last_id == after
    assert (state(db, runs), state(db, waits), state(db, f"{array}_999")) == (
        State.STOPPING,
        State.CANCELLED,
        State.CANCELLED,
    )
    assert jobs.find(db, str(waits)).explanation == "cancelled by ana: enough"
    waiter = jobs.find(db, str(after))
    assert (waiter.state, waiter.deps_waiting, waiter.deps_failed) == (State.PENDING, 0, 1000)
    assert waiter.never_cause is not None
    assert sets.meanwhile(db, Wanted(owner="ana"), done.last_id, 5) == (0, [])
    late = add(db)
    assert sets.meanwhile(db, Wanted(owner="ana"), done.last_id, 5) == (1, [str(late)])


def test_those_that_can_never_start_are_a_set(db):
    bad = add(db)
    first = add(db, after=[str(bad)])
    second = add(db, after_any=[str(first)])
    cancel(db, Wanted(filter=lists.Filter(array_id=None, equal={"name": "nobody"})))
    jobs.cancel(db, str(bad), grace_s=None, reason=None, **HOW)
    other = add(db)
    assert sets.count(db, Wanted(filter=lists.Filter(never=True)), {State.PENDING}) == 2
    assert cancel(db, Wanted(filter=lists.Filter(never=True))).pending == 2
    assert (state(db, first), state(db, second), state(db, other)) == (
        State.CANCELLED,
        State.CANCELLED,
        State.PENDING,
    )


def test_held_ones_count_as_held_and_are_released(db):
    array = add(db, array="0-199", name="many")
    single = add(db, hold=True)
    wanted = Wanted(filter=lists.Filter(equal={"user": "ana"}))
    assert sets.hold(db, wanted, **HOW).pending == 201
    assert (arrays.find(db, array).held, jobs.find(db, str(single)).held) == (200, True)
    assert sets.release(db, Wanted(filter=lists.Filter(equal={"name": "many"})), **HOW).pending == 200
    assert (arrays.find(db, array).held, jobs.find(db, str(single)).held) == (0, True)
    assert lists.held_count(db) == 1


def test_a_very_large_set_takes_several_transactions(db, monkeypatch):
    monkeypatch.setattr(sets, "MOST", 10)
    for _ in range(25):
        add(db)
    for verb, held in ((sets.hold, 25), (sets.release, 0)):
        done = verb(db, Wanted(), **HOW)
        count, last = done.pending, done.last_id
        while done.more:
            done = verb(db, Wanted(up_to=last), **HOW)
            count += done.pending
        assert (count, lists.held_count(db)) == (25, held)
    done = cancel(db)
    late = add(db)
    while done.more:
        done = cancel(db, Wanted(up_to=25))
    assert jobs.counts(db)[State.PENDING] == 1
    assert state(db, late) is State.PENDING


@pytest.mark.parametrize("seed", range(8))
def test_it_is_as_if_each_had_been_changed_alone(seed):
    """The same queue, once changed as a set and once job by job, is the same queue."""
    seen = []
    for together in (True, False):
        dice, db = random.Random(seed), empty_queue()
        known: list[int] = []
        for _ in range(40):
            kind = dice.choice(["after", "after_any", "after_fail"])
            spec = {kind: [str(dice.choice(known))]} if known and dice.random() < 0.4 else {}
            name = dice.choice(["a", "b"])
            known.append(
                add(db, name=name, hold=dice.random() < 0.2, user=dice.choice(["ana", "bo"]), **spec)
            )
        verb = dice.choice(["cancel", "hold", "release"])
        wanted = Wanted(filter=lists.Filter(equal={"name": "a"}), owner=dice.choice([None, "ana"]))
        more = {"grace_s": None, "reason": None} if verb == "cancel" else {}
        if together:
            getattr(sets, verb)(db, wanted, **more, **HOW)
        else:
            for job_id in known:
                job = jobs.find(db, str(job_id))
                if job.name == "a" and job.user in (wanted.owner or job.user):
                    getattr(jobs, verb)(db, str(job_id), **more, **HOW)
        found = [jobs.find(db, str(job_id)) for job_id in known]
        seen.append(
            [
                (
                    # a cancelled job's own dependencies say nothing any more
                    (one.state, one.held, one.explanation, one.ended_at, one.version)
                    if one.state is State.CANCELLED
                    else (one.state, one.held, one.deps_waiting, one.deps_failed, one.never_cause is None)
                )
                for one in found
            ]
        )
        counts = db.execute("SELECT type, count(*) FROM events WHERE type <> 'job.dependency' GROUP BY type")
        seen[-1] += [tuple(row) for row in counts]
        seen[-1] += [jobs.counts(db), lists.held_count(db)]
        db.close()
    assert seen[0] == seen[1]


def test_twenty_thousand_jobs_are_cancelled_in_a_moment(db):
    for _ in range(20):
        add(db, array="0-99", name="x")
    db.execute("CREATE TEMP TABLE many AS SELECT * FROM jobs")
    db.execute("UPDATE many SET array_id = NULL, array_index = NULL")
    for _ in range(9):
        db.execute("UPDATE many SET id = id + 2000")
        db.execute("INSERT INTO jobs SELECT * FROM many")
    began = time.process_time()
    assert cancel(db) == Changed(pending=20_000, last_id=20_000)
    assert jobs.counts(db)[State.CANCELLED] == 20_000
    took_s = time.process_time() - began
    assert took_s < 10.0, f"{took_s:.1f} s"  # 1 s on an idle machine

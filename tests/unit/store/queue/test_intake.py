"""Submits in the transaction that stores them: many at a time as one after the other."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.base.errors import Refused
from leptond.core.accounting.budgets import Budget
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.fair_share import Caps, Limits
from leptond.store.accounting import budgets
from leptond.store.database.transaction import merged, run, transaction
from leptond.store.queue import fair_share, intake, jobs, queues
from leptond.store.queue.intake import Key, Submit
from tests.support.queue import add, db, empty_queue
from tests.unit.store.queue.test_submit import content

__all__ = ["db"]

CAPS = Limits(users=Caps(max_pending=9))


def plain(user="ana", now=5.0, key=None, body="x", **spec):
    """A submit of one job."""
    admitted = admit(JobSpec(**{"argv": ["true"], **spec}), gpus=2, home="/", defaults=Defaults())
    return Submit(
        admitted=[admitted],
        user=user,
        now=now,
        max_pending=14,
        caps=CAPS,
        key=Key(key=key, body_sha256=body) if key is not None else None,
        warnings=[["careful"]] if spec.get("priority") else [[]],
    )


SUBMITS = st.builds(
    plain,
    user=st.sampled_from(["ana", "ana", "bo"]),
    now=st.sampled_from([5.0, 5.5, 3.0]),
    key=st.sampled_from([None, None, "k", "l"]),
    body=st.sampled_from(["x", "x", "y"]),
    queue=st.sampled_from([None, None, None, "closed"]),
    project=st.sampled_from([None, "p"]),
    name=st.sampled_from([None, "a"]),
    gpus=st.sampled_from([0, 1]),
    priority=st.sampled_from([0, 5]),
    time_limit_s=st.sampled_from([None, 3600.0]),
    argv=st.sampled_from([["true"], ["false"]]),
    script=st.sampled_from([None, None, "#!/bin/sh\n"]),
)


def prepared(*, with_budget):
    one = empty_queue()
    add(one)
    queue = queues.Queue(name="closed", state="closed")
    queues.create(one, queue, None, by="me", now=1.0)
    limit = fair_share.Limit(kind="project", name="p", max_pending=4)
    fair_share.set_limit(one, limit, by="me", now=1.0)
    if with_budget:
        budget = Budget(scope="user", name="ana", period="month", amount=None, gpu_hours=3.0, action="refuse")
        budgets.put(one, budget, by="me", now=1.0)
    return one


def told(outcome):
    value, failure = outcome
    return value if failure is None else (type(failure), str(failure))


@settings(max_examples=80, deadline=None)
@given(st.lists(SUBMITS, min_size=1, max_size=18), st.booleans())
def test_submits_that_share_a_commit_are_stored_as_one_after_the_other(submits, with_budget):
    one_by_one, together = prepared(with_budget=with_budget), prepared(with_budget=with_budget)
    wanted = [
        told(outcome)
        for each in submits
        for outcome in transaction(one_by_one, [lambda db, each=each: intake.submit(db, each)])
    ]
    found = run(together, [lambda db: merged(db, intake.submit_each, submits)])
    assert [told(outcome) for outcome in found] == wanted
    assert content(together) == content(one_by_one)
    for each in (one_by_one, together):
        each.close()


def test_only_what_nothing_can_refuse_once_it_is_checked_is_plain(db):
    assert plain().is_plain
    assert plain(script="x").is_plain
    assert not plain(after=["1"]).is_plain
    assert not plain(array="0-1").is_plain
    one = plain()
    assert not msgspec.structs.replace(one, admitted=[*one.admitted] * 2).is_plain
    assert not msgspec.structs.replace(one, beside=lambda db, stored: None).is_plain


def test_an_error_of_the_database_undoes_only_what_it_hits(db):
    good, bad = plain(user="ana"), plain(user="bo")
    db.execute(
        "CREATE TRIGGER no_bo BEFORE INSERT ON jobs WHEN NEW.user = 'bo' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    (first, second, third) = run(db, [lambda db: merged(db, intake.submit_each, [good, bad, good])])
    assert [first[1] is None, second[1] is None, third[1] is None] == [True, False, True]
    assert [job.user for job in (jobs.find(db, "1"), jobs.find(db, "2"))] == ["ana", "ana"]
    assert jobs.counts(db)["pending"] == 2


def test_a_refusal_leaves_nothing(db):
    with pytest.raises(Refused):
        intake.submit(db, msgspec.structs.replace(plain(), max_pending=0))
    assert jobs.counts(db)["pending"] == 0


def test_what_submits_have_in_common_is_read_once(db):
    reads = []
    for count in (2, 8):
        statements = []
        db.set_trace_callback(statements.append)
        intake.submit_each(db, [plain(now=5.0 + number) for number in range(count)])
        db.set_trace_callback(None)
        reads.append(sum(sql.startswith("SELECT") for sql in statements))
    assert reads[0] == reads[1]
    assert reads[0] > 0

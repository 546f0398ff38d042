"""Submits: consecutive ids, and answers of older releases."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store.queue import jobs, submit
from tests.support.queue import add, db, empty_queue

__all__ = ["db"]


def test_ids_follow_each_other_and_are_not_given_again(db):
    assert [add(db), add(db, array="0-2"), add(db)] == [1, 2, 5]
    assert [jobs.find(db, f"2_{index}").id for index in range(3)] == [2, 3, 4]
    jobs.cancel(db, "5", by="ana", grace_s=None, reason=None, now=1.0)
    jobs.purge(db, "5", by="ana", now=1.0)
    assert (submit.next_id(db), add(db)) == (6, 6)


@pytest.mark.parametrize(
    "text",
    [
        '[{"id":4,"count":3,"array_id":4,"name":"x"}]',
        '[{"ids":[4,5,6],"array_id":4,"name":"x"}]',
    ],
)
def test_answers_of_all_releases_are_read(text):
    (stored,) = submit.remembered(text)
    assert (list(stored.ids), stored.array_id, stored.name) == ([4, 5, 6], 4, "x")


SPECS = st.builds(
    lambda **fields: JobSpec(argv=["true"], **{name: value for name, value in fields.items() if value}),
    name=st.sampled_from([None, "a", "b"]),
    env=st.sampled_from([{}, {"SEED": "1"}, {"SEED": "2"}]),
    labels=st.sampled_from([{}, {"k": "v"}]),
    gpus=st.sampled_from([0, 0, 1]),
    priority=st.sampled_from([0, 0, 5]),
    project=st.sampled_from([None, None, "p"]),
    hold=st.booleans(),
    time_limit_s=st.sampled_from([None, 60.0]),
    array=st.sampled_from([None, None, None, "0-2", "0-200"]),
    after=st.sampled_from([[], [], [], ["1"]]),
)


def content(db):
    """All that a submit writes: rows, events and counts."""
    tables = (
        "jobs",
        "folds",
        "arrays",
        "events",
        "job_counts",
        "held_count",
        "counted_together",
        "pending_counts",
        "dependencies",
    )
    return {name: [tuple(row) for row in db.execute(f"SELECT * FROM {name}")] for name in tables}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SPECS, st.integers(1, 40)), min_size=1, max_size=6))
def test_a_batch_stores_what_its_jobs_store_one_by_one(runs):
    one_by_one, batch, shared = empty_queue(), empty_queue(), empty_queue()
    for each in (one_by_one, batch, shared):
        add(each)
    some = [[admit(spec, gpus=2, home="/", defaults=Defaults())] * count for spec, count in runs]
    admitted = [one for run in some for one in run]
    for one in admitted:
        submit.insert(one_by_one, [one], user="ana", now=5.0)
    submit.insert(batch, [msgspec.structs.replace(one) for one in admitted], user="ana", now=5.0)
    submit.insert(shared, admitted, user="ana", now=5.0)
    wanted = content(one_by_one)
    assert content(batch) == wanted
    assert content(shared) == wanted
    for each in (one_by_one, batch, shared):
        each.close()

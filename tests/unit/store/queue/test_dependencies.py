"""Dependencies: settled by the end of a job, each kind in its way."""

import pytest

from leptond.base.errors import Invalid
from leptond.store.queue import dependencies, jobs
from tests.support.queue import add, db, end, lease

__all__ = ["db"]


@pytest.mark.parametrize(
    ("field", "exit_code", "met"),
    [
        ("after", 0, True),
        ("after", 1, False),
        ("after_any", 0, True),
        ("after_any", 1, True),
        ("after_fail", 0, False),
        ("after_fail", 1, True),
    ],
)
def test_an_end_settles_a_dependency(db, field, exit_code, met):
    first = add(db)
    second = add(db, **{field: [str(first)]})
    assert jobs.find(db, str(second)).deps_waiting == 1
    end(db, lease(db, first).attempt.id, exit_code)
    job = jobs.find(db, str(second))
    assert (job.deps_waiting, job.deps_failed) == (0, 0 if met else 1)
    assert [(one.on_ref, one.state) for one in dependencies.of(db, second)] == [
        (str(first), "met" if met else "failed")
    ]


def test_a_job_that_is_named_often_is_looked_for_once(db):
    first = add(db)
    statements = []
    db.set_trace_callback(statements.append)
    add(db, after=[str(first)])
    once = len(statements)
    statements.clear()
    second = add(db, after=[str(first)] * 500)
    assert len(statements) == once
    assert [one.on_job_id for one in dependencies.of(db, second)] == [first]


def test_a_job_that_is_not_there_cannot_be_waited_for(db):
    with pytest.raises(Invalid):
        add(db, after=["99"])

"""Values of a job: its spec as it is now."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs import fields
from leptond.core.jobs.model import Job, JobSpec
from leptond.store.database import rows
from leptond.store.queue import jobs
from tests.simulation.store import database


def job_of(**asked: object) -> Job:
    db = database()
    spec = msgspec.convert({"argv": ["true"], **asked}, JobSpec)
    one = admit(spec, gpus=8, home="/", defaults=Defaults())
    jobs.submit(db, [one], user="ana", now=1.0, max_pending=1000)
    found = rows.job(db.execute("SELECT * FROM jobs ORDER BY id LIMIT 1").fetchone())
    db.close()
    return found


def test_a_job_that_was_not_edited_has_the_spec_that_was_admitted() -> None:
    begin = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    job = job_of(gpus=2, labels={"a": "b"}, begin_at=begin, queue="default", project="p")
    assert job.current_spec() == job.spec


def test_an_edited_job_has_the_new_values() -> None:
    job = job_of(gpus=2)
    changes = {
        "gpus": 1,
        "queue": "fast",
        "time_limit_s": 60.0,
        "priority": 7,
        "name": "other",
        "retries": 3,
        "project": "p",
        "labels": {"x": "y"},
        "begin_at": 2e9,
    }
    spec = msgspec.structs.replace(job, **changes).current_spec()
    assert {name: getattr(spec, name) for name in changes} == {
        **changes,
        "begin_at": datetime.fromtimestamp(2e9, UTC),
    }
    assert changes.keys() <= {field.name for field in fields.FIELDS if field.editable is not None}


def test_a_begin_time_may_be_taken_away() -> None:
    job = job_of(begin_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert msgspec.structs.replace(job, begin_at=None).current_spec().begin_at is None


def test_a_member_of_an_array_is_a_job_of_its_own() -> None:
    job = job_of(array="0-3%2")
    assert (job.spec.array, job.current_spec().array) == ("0-3%2", None)

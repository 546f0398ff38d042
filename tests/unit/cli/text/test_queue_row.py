"""A job in one line of the queue."""

from leptond.cli.text.queue_row import queue_row
from leptond.core.jobs.model import Reason
from tests.unit.cli.stub import RUNNING, make_job, plain


def test_a_job_that_waits_shows_its_reason():
    row = queue_row(plain(make_job(priority=5, time_limit_s=5400.0)), table=True)
    assert row[:3] == ["47", "train.py", "ana"]
    assert row[4:6] == [5, "pending"]
    assert row[7] == "1h30m"
    assert row[-1] == "Resources: needs 4 GPUs, 1 free"


def test_a_job_that_runs_shows_its_gpus_and_no_reason():
    row = queue_row(plain(make_job(**RUNNING)), table=False)
    assert row[3] == "0,1"
    assert row[5] == "running"
    assert not row[-1]


def test_an_array_is_one_line_for_people_and_its_own_ref_in_a_pipe():
    job = plain(make_job(id=50, ref="50_0", array_id=50, array_index=0, reason=Reason.RESOURCES))
    job["members"] = {"running": 3, "pending": 4970}
    row = queue_row(job, table=True)
    assert row[0] == "50_*"
    assert row[-1] == "4,970 pending, 3 running; Resources: needs 4 GPUs, 1 free"
    assert queue_row(job, table=False)[0] == "50_0"

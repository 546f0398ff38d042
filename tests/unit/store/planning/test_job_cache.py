"""A cached job is decoded again only when its row has changed."""

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store.database import rows
from leptond.store.planning.job_cache import JobCache
from leptond.store.queue import jobs
from tests.simulation.store import database


def test_a_job_is_made_again_when_its_row_has_changed_and_only_then():
    db = database()
    one = admit(JobSpec(argv=["true"]), gpus=1, home="/", defaults=Defaults())
    jobs.submit(db, [one] * 3, user="ana", now=1.0, max_pending=10)
    known = JobCache()
    before = known.pending(db, [1, 2, 3, 4])
    assert list(before) == [1, 2, 3]
    again = known.pending(db, [3, 2, 1])
    assert all(again[job_id] is before[job_id] for job_id in before)
    jobs.edit(db, "2", {"priority": 5}, by="ana", if_version=None, now=2.0)
    jobs.cancel(db, "3", by="ana", grace_s=None, reason=None, now=2.0)
    now = known.pending(db, [1, 2, 3])
    assert list(now) == [1, 2]
    assert now[1] is before[1]
    assert now[2] == rows.job(db.execute("SELECT * FROM jobs WHERE id = 2").fetchone())
    assert (before[2].priority, now[2].priority) == (0, 5)
    db.close()

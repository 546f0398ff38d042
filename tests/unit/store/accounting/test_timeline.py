"""The attempts of a span of time."""

from leptond.store.accounting import timeline
from tests.support.queue import add, db, end, lease

__all__ = ["db"]


def test_attempts_with_gpus_within_the_span_live_ones_first(db):
    over = lease(db, add(db, gpus=1), "GPU-0", now=10.0).attempt
    end(db, over.id, now=20.0)
    lease(db, add(db, gpus=1), "GPU-1", now=15.0)
    lease(db, add(db), now=15.0)
    lanes, more = timeline.between(db, 0.0, 100.0, 10)
    assert [(one.job_id, one.ended_at) for one in lanes] == [(2, None), (1, 20.0)]
    assert (more, [gpu.uuid for gpu in lanes[1].gpus]) == (False, ["GPU-0"])
    assert [one.job_id for one in timeline.between(db, 20.0, 100.0, 10)[0]] == [2]
    assert [one.job_id for one in timeline.between(db, 0.0, 12.0, 10)[0]] == [1]
    assert timeline.between(db, 0.0, 100.0, 1)[1]

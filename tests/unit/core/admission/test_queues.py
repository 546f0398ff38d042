"""Queues: who may submit, and what jobs get by default."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.errors import Forbidden, Invalid, QueueClosed
from leptond.core.admission.admission import Defaults
from leptond.core.admission.queues import Queue
from leptond.core.jobs.model import JobSpec

SPEC = JobSpec(argv=["true"], gpus=2)


@pytest.mark.parametrize(
    ("user", "admin", "users", "taken"),
    [
        ("ana", False, (), True),
        ("ana", False, ("ana", "bo"), True),
        ("cy", False, ("ana", "bo"), False),
        ("cy", True, ("ana", "bo"), True),
    ],
)
def test_a_queue_takes_jobs_of_its_users_and_of_admins(user, admin, users, taken):
    queue = Queue(name="q", users=users)
    if taken:
        assert queue.admit(SPEC, user=user, admin=admin) == SPEC
    else:
        with pytest.raises(Forbidden, match="the queue q is not for cy") as refused:
            queue.admit(SPEC, user=user, admin=admin)
        assert "ana, bo" in (refused.value.hint or "")


@pytest.mark.parametrize(("asked", "default", "priority"), [(0, 5, 5), (3, 5, 3), (-1, 5, -1), (0, 0, 0)])
def test_the_queues_priority_is_for_jobs_without_one(asked, default, priority):
    spec = JobSpec(argv=["true"], priority=asked)
    admitted = Queue(name="q", default_priority=default).admit(spec, user="ana", admin=False)
    assert admitted.priority == priority


def test_a_job_wider_than_the_queue_takes_is_refused():
    queue = Queue(name="q", max_gpus=2)
    queue.check_gpus(2)
    with pytest.raises(Invalid, match="asks for 3 GPUs, the queue q takes jobs of at most 2") as refused:
        queue.admit(JobSpec(argv=["true"], gpus=3), user="ana", admin=True)
    assert refused.value.pointer == "/gpus"


def test_a_closed_queue_takes_no_jobs():
    Queue(name="q").must_be_open()
    with pytest.raises(QueueClosed, match="the queue q is closed"):
        Queue(name="q", state="closed").must_be_open()


OWN = st.none() | st.floats(1, 1e6)
USUAL = st.just(0.0) | st.floats(1, 1e6)  # 0: no limit


@given(own=OWN, own_max=OWN, usual=USUAL, usual_max=USUAL)
def test_the_stricter_limit_and_the_queues_own_default_count(own, own_max, usual, usual_max):
    queue = Queue(name="q", default_time_limit_s=own, max_time_limit_s=own_max)
    found = queue.defaults(Defaults(time_limit_s=usual, max_time_limit_s=usual_max))
    assert found.time_limit_s == (own or usual)
    assert found.max_time_limit_s == min((one for one in (own_max, usual_max) if one), default=0.0)
    assert found.grace_s == Defaults().grace_s

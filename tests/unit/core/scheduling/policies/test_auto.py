"""No job waits for ever: a wide one that cannot be placed, in a stream of narrow ones that never ends."""

import heapq

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Waiting, plan
from tests.unit.core.scheduling.test_planner import HOUR, gpus

POLICY = Policy(overdue_factor=4.0, overdue_batch_gpu_s=8 * HOUR)
"""The defaults at a smaller size, so that the run is short."""


def start_of_the_wide(width, its_limit_s, limits_s, preemptible):
    """When job 0 starts, while two narrow jobs wait at any time; they take their whole limits."""
    now, number, carried = 0.0, 1, CarriedState()
    waiting = {0: Waiting(id=0, priority=0, gpus=width, since=HOUR, limit_s=its_limit_s)}
    running, ends = {}, []
    while True:
        while len(waiting) < 3:
            limit_s = limits_s[number % len(limits_s)]
            waiting[number] = Waiting(
                id=number, priority=0, gpus=1, since=now, limit_s=limit_s, preemptible=preemptible
            )
            number += 1
        devices = gpus(8)
        inputs = PlanInput(
            waiting=[job for job in waiting.values() if job.since <= now],
            running=list(running.values()),
            gpus=devices,
            cpu_slots=0,
            now=now,
            policy=POLICY,
            carried=carried,
        )
        made = plan(inputs, explain=False)
        carried = made.carried
        for start in made.starts:
            job = waiting.pop(start.id)
            if job.id == 0:
                return now
            running[job.id] = Running(
                id=job.id,
                gpus=start.gpus,
                since=job.since,
                started_at=now,
                limit_s=job.limit_s,
                preemptible=job.preemptible,
            )
            heapq.heappush(ends, (now + job.limit_s, job.id))
        for preempt in made.preempts:
            running.pop(preempt.id)
        if made.starts or made.preempts:
            continue
        while ends and ends[0][1] not in running:
            heapq.heappop(ends)
        now, ended = heapq.heappop(ends)
        del running[ended]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 8),
    st.sampled_from([HOUR / 2, HOUR, 2 * HOUR]),
    st.lists(st.sampled_from([HOUR / 4, HOUR, 3 * HOUR]), min_size=1, max_size=4),
    st.booleans(),
)
def test_the_wait_is_bounded(width, its_limit_s, limits_s, preemptible):
    """The time until it is overdue, the time in which as much is given out as makes a batch be owed, and the
    longest limit."""
    overdue_s = 4 * POLICY.overdue_factor * its_limit_s
    batch_s = POLICY.overdue_batch_gpu_s / POLICY.overdue_share / 8
    wait_s = start_of_the_wide(width, its_limit_s, limits_s, preemptible) - HOUR
    assert wait_s <= overdue_s + batch_s + max(limits_s) + HOUR

"""No job waits for ever: a wide one that cannot be placed, in a stream of narrow ones that never ends."""

import heapq
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.scheduling.overdue import turn
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Waiting, plan
from tests.unit.core.scheduling.test_planner import HOUR, gpus

POLICY = Policy(overdue_factor=16.0, overdue_max_s=40 * HOUR, overdue_batch_s=HOUR)
"""The defaults at a smaller size, so that the run is short."""


def start_of_the_wide(width, its_limit_s, limits_s, *, devices, busy=8, preemptible=False):
    """When job 0, the oldest, starts: it comes when the machine is taken, and then two narrow jobs wait at
    any time, if fewer than `busy` run; they take their whole limits. With it, what was said of its turn at
    each pass before."""
    now, number, carried, said = 0.0, 1, CarriedState(), []
    waiting = {0: Waiting(id=0, priority=0, gpus=width, since=HOUR, limit_s=its_limit_s)}
    running, ends = {}, []
    while True:
        while len(waiting) < 3 and len(running) < busy:
            limit_s = limits_s[number % len(limits_s)]
            waiting[number] = Waiting(
                id=number, priority=0, gpus=1, since=max(now, HOUR), limit_s=limit_s, preemptible=preemptible
            )
            number += 1
        inputs = PlanInput(
            waiting=[job for job in waiting.values() if job.id or now >= HOUR],
            running=list(running.values()),
            gpus=gpus(devices),
            cpu_slots=0,
            now=now,
            policy=POLICY,
            carried=carried,
        )
        if now >= HOUR:
            said.append((now, turn(waiting[0], inputs)))
        made = plan(inputs, explain=False)
        carried = made.carried
        for start in made.starts:
            job = waiting.pop(start.id)
            if job.id == 0:
                return now, said
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
        at, ended = ends[0]
        if made.wake_at is not None and now < made.wake_at < at:
            now = made.wake_at
            continue
        now = at
        heapq.heappop(ends)
        del running[ended]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8]).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n))
    ),
    st.sampled_from([HOUR / 2, HOUR, 4 * HOUR]),
    st.lists(st.sampled_from([HOUR / 4, HOUR, 3 * HOUR]), min_size=1, max_size=4),
    st.booleans(),
)
def test_what_is_said_of_its_turn_is_kept(machine, its_limit_s, limits_s, preemptible):
    """Whatever the machine and however little of it the others fill: from the time on that `turn` names, the
    job waits for those that run, and for nothing else. That time never slides."""
    devices, width, busy = machine
    started, said = start_of_the_wide(
        width, its_limit_s, limits_s, devices=devices, busy=busy, preemptible=preemptible
    )
    latest = [each.at for now, each in said if each.at > now]
    assert all(each.ahead == 0 for _, each in said)
    assert all(later <= sooner + 1.0 for sooner, later in pairwise(latest))
    assert started <= said[0][1].at + max(limits_s) + 1.0


def test_the_bound_does_not_depend_on_the_size_of_the_machine():
    """It is said when the job is submitted, and is the same for a machine that is all taken by one job."""
    bounds = {
        devices: start_of_the_wide(devices, HOUR, [HOUR / 4], devices=devices, busy=devices)[1][0][1].at
        for devices in (1, 2, 4, 8)
    }
    assert len({round(at) for at in bounds.values()}) == 1, bounds

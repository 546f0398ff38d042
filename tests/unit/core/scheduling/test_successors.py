"""The choice of successors against a naive model: the planner itself, asked at every end, about all jobs."""

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from leptond.core.scheduling import successors
from leptond.core.scheduling.fair_share import Caps, Limits
from leptond.core.scheduling.planner import Policy, plan
from leptond.core.scheduling.policies import POLICIES
from tests.unit.core.scheduling.test_planner import NOTHING, gpus, inputs, job, runs

NOW = 1000.0


@st.composite
def machines(draw):
    """Machines on which nothing is to be done now, mostly full, with jobs that wait."""
    devices = draw(st.integers(1, 5))
    slots = draw(st.integers(0, 2))
    odd = draw(st.booleans())
    user = st.sampled_from(["ana", "ben"] if odd else ["ana"])
    limit = st.sampled_from([None, 1.0, 600.0, 7200.0])
    free, running = list(range(devices)), []
    while free and draw(st.integers(0, 9)):
        held = [free.pop(0) for _ in range(draw(st.integers(1, min(2, len(free)))))]
        more = dict(stopping=draw(st.integers(0, 9)) == 0) if odd else {}
        if odd and draw(st.integers(0, 5)) == 0:
            more |= dict(share_bytes=1)
        preemptible = odd and draw(st.integers(0, 5)) == 0
        running.append(
            runs(
                100 + len(running),
                *held,
                started_at=draw(st.sampled_from([NOW - 5, NOW - 1, NOW])),
                limit_s=draw(limit),
                user=draw(user),
                preemptible=preemptible,
                **more,
            )
        )
    for _ in range(draw(st.integers(0, slots))):
        running.append(runs(100 + len(running), started_at=NOW - 1, limit_s=draw(limit), user=draw(user)))
    waiting = []
    for number in range(1, 1 + draw(st.integers(1, 8))):
        need = draw(st.sampled_from([0, 1, 1, 1, 2]))
        more = {}
        if odd and draw(st.integers(0, 4)) == 0:
            more = draw(
                st.sampled_from(
                    [
                        dict(array_id=7, array_limit=2),
                        dict(gpu_type="x"),
                        dict(preemptible=True),
                        dict(urgent=True),
                        dict(gpu_memory_bytes=1, exclusive=True),
                        dict(avoid=("GPU-0",)),
                    ]
                )
            )
            if not need:
                more = {name: value for name, value in more.items() if name in ("array_id", "array_limit")}
        waiting.append(
            job(
                number,
                need=need,
                priority=draw(st.sampled_from([0, 0, 0, 1])),
                since=NOW - draw(st.sampled_from([1.0, 2.0, 20_000.0])),
                limit_s=draw(limit),
                user=draw(user),
                **more,
            )
        )
    limits = Limits(users=Caps(max_gpus=draw(st.integers(1, 3)))) if odd and draw(st.booleans()) else Limits()
    policy = Policy(
        name=draw(st.sampled_from(sorted(POLICIES))),
        limits=limits,
        max_bypass_s=draw(st.sampled_from([0.0, 100.0])),
        overdue_s=draw(st.sampled_from([3600.0, 1.5])),
        overdue_factor=draw(st.sampled_from([160.0, 0.001])),
        overdue_batch_s=draw(st.sampled_from([4 * 3600.0, 1.0])),
    )
    out = draw(st.sampled_from([(), (), (), (devices - 1,)]))
    return inputs(waiting, running, gpus(devices, out), slots, NOW, policy, NOTHING)


EXPECTED_S = st.sampled_from([None, 0.5, successors.SHORT_RUN_S, 60.0])


@st.composite
def choices(draw):
    """A machine, which jobs are at their gates, and what was chosen for it."""
    machine = draw(machines())
    made = plan(machine, explain=False)
    assume(not made.starts and not made.preempts)
    ready = {one.id: draw(EXPECTED_S) for one in machine.waiting if draw(st.integers(0, 5))}
    most = draw(st.sampled_from([1, 3, 100]))
    return machine, ready, most, successors.choose(machine, ready, most=most)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(choices(), st.data())
def test_what_takes_over_is_what_a_plan_would_start_at_that_end(choice, data):
    machine, _, _, lines = choice
    left = [list(line.waiting) for line in lines]
    holders = [list(line.running) for line in lines]
    now = machine.now
    until = min((line.wake_at for line in lines if line.wake_at is not None), default=NOW + 1e6)
    while any(left):
        which = data.draw(st.sampled_from([i for i, one in enumerate(left) if one]))
        ended = data.draw(st.sampled_from(holders[which]))
        now = data.draw(st.sampled_from([now, now + (until - now) / 3, max(now, until - 1e-3)]))
        running = {one.id: one for one in machine.running}
        gone = running.pop(ended)
        freed = msgspec.structs.replace(machine, running=list(running.values()), now=now)
        made = plan(freed, explain=False)
        number = left[which].pop(0)
        assert [(one.id, sorted(one.gpus)) for one in made.starts] == [(number, sorted(gone.gpus))]
        assert not made.preempts
        waiting = {one.id: one for one in machine.waiting}
        taker = successors._running(waiting.pop(number), gone, now)
        machine = msgspec.structs.replace(
            machine,
            waiting=list(waiting.values()),
            running=[*running.values(), taker],
            now=now,
            carried=made.carried,
        )
        holders[which].remove(ended)
        if lines[which].alike:
            holders[which].append(number)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(choices())
def test_no_job_is_in_two_lines_and_none_that_is_not_ready_and_no_line_is_too_long(choice):
    _, ready, most, lines = choice
    chosen = [job_id for line in lines for job_id in line.waiting]
    ended = [job_id for line in lines for job_id in line.running]
    assert len(chosen) == len(set(chosen)) <= most
    assert set(chosen) <= ready.keys()
    assert len(ended) == len(set(ended))
    for line in lines:
        assert len(line.granted_gpu_s) == len(line.waiting)
        assert line.alike or len(line.waiting) == 1
        for place, before in enumerate(line.waiting[:-1], start=1):
            short = ready[before] is not None and ready[before] <= successors.SHORT_RUN_S
            assert place < len(line.running) * (successors.SHORT_DEPTH if short else 1)


def chosen_for(waiting, running, *, now=NOW, out=(), most=100, expected_s=0.5, **policy):
    machine = inputs(waiting, running, gpus(2, out), 0, now, Policy(**policy), NOTHING)
    return successors.choose(machine, {one.id: expected_s for one in waiting}, most=most)


@pytest.mark.parametrize(("expected_s", "count"), [(0.5, 8), (2.0, 8), (2.1, 2), (None, 2)])
def test_slots_of_short_jobs_have_more_successors(expected_s, count):
    waiting = [job(number, since=NOW) for number in range(1, 20)]
    (line,) = chosen_for(waiting, [runs(100, 0), runs(101, 1)], expected_s=expected_s)
    assert list(line.running) == [100, 101]
    assert list(line.waiting) == list(range(1, count + 1))


def test_a_drained_gpu_has_no_successor():
    (line,) = chosen_for([job(1, since=NOW)], [runs(100, 0), runs(101, 1)], out=(1,))
    assert list(line.running) == [100]


@pytest.mark.parametrize(
    ("policy", "until"),
    [
        (dict(name="fifo"), None),
        (dict(name="firstfit", max_bypass_s=100.0), NOW + 90.0),
        (dict(name="auto", overdue_s=50.0, overdue_factor=0.0), NOW + 40.0),
    ],
)
def test_a_line_is_valid_until_a_job_has_waited_too_long(policy, until):
    (line,) = chosen_for(
        [job(1, since=NOW - 10), job(2, need=2, since=NOW - 10)], [runs(100, 0), runs(101, 1)], **policy
    )
    assert line.wake_at == until

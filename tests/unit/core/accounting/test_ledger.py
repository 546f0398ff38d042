"""The ledger: the boxes add up, and each piece is in the right one."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.accounting.ledger import (
    MS_PER_HOUR,
    UNDECIDED,
    AttemptSpan,
    Box,
    IdleCause,
    IdleCauseChange,
    PriceChange,
    ServiceChange,
    attempt_phases,
    box_totals,
    capacity_ms,
    checkpoint_interval_s,
    cost_per_useful_hour,
    ledger_entries,
    startable_at,
    total_cost,
)
from leptond.core.jobs.model import State

GPU = "GPU-0"
IN = ServiceChange(gpu=GPU, at=0)


def boxes(*spans, end=100, service=(IN,), queue=(), prices=(), now=None):
    """Milliseconds by box of one window, empty boxes left out."""
    entries = ledger_entries(0, end, service=service, spans=spans, queue=queue, prices=prices, now=now)
    return {box: ms for box, ms in box_totals(entries).boxes.items() if ms}


def span(**given):
    return AttemptSpan(
        **({"id": "a", "job": 1, "gpus": [GPU], "claimed": 10, "start": 10, "end": 50} | given)
    )


OK = {"cause": "ok", "job_state": State.SUCCEEDED}
CASES = [
    ("success", span(**OK), {Box.PROD: 40, Box.EMPTY: 60}),
    ("slow start", span(**OK, progress=25), {Box.START: 15, Box.PROD: 25, Box.EMPTY: 60}),
    (
        "told to stop, and succeeded",
        span(**OK, stop=45),
        {Box.PROD: 35, Box.STOP: 5, Box.EMPTY: 60},
    ),
    (
        "failed, and another attempt succeeded: kept up to the checkpoint",
        span(cause="user", job_state=State.SUCCEEDED, progress=20, checkpoint=30),
        {Box.START: 10, Box.PROD: 10, Box.LOST: 20, Box.EMPTY: 60},
    ),
    (
        "preempted without a checkpoint",
        span(cause="preempted", stop_reason="preempt", stop=40, job_state=State.SUCCEEDED),
        {Box.LOST: 30, Box.STOP: 10, Box.EMPTY: 60},
    ),
    (
        "preempted, checkpoint written after the signal",
        span(cause="preempted", stop=40, checkpoint=44, job_state=State.SUCCEEDED),
        {Box.PROD: 30, Box.STOP: 10, Box.EMPTY: 60},
    ),
    (
        "a job that failed in the end keeps nothing",
        span(cause="user", job_state=State.FAILED, progress=20, checkpoint=30),
        {Box.START: 10, Box.FAILED: 30, Box.EMPTY: 60},
    ),
    (
        "preempted attempt of a job that timed out later",
        span(cause="preempted", stop=40, checkpoint=39, job_state=State.TIMED_OUT, job_cause="timeout"),
        {Box.FAILED: 30, Box.STOP: 10, Box.EMPTY: 60},
    ),
    (
        "cancelled",
        span(cause="cancelled", stop=42, job_state=State.CANCELLED),
        {Box.CANCEL: 32, Box.STOP: 8, Box.EMPTY: 60},
    ),
    (
        "never started",
        span(cause="never-started", start=None, end=30, job_state=State.PENDING),
        {Box.GAP: 20, Box.EMPTY: 80},
    ),
    ("claimed, on its way", span(start=None, end=None), {Box.GAP: 90, Box.EMPTY: 10}),
    ("alive", span(end=None), {Box.PROD: 90, Box.EMPTY: 10}),
    ("could have started earlier", span(**OK, startable=4), {Box.GAP: 6, Box.PROD: 40, Box.EMPTY: 54}),
]


@pytest.mark.parametrize(("one", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_attempt_and_its_boxes(one, expected):
    assert boxes(one) == expected


def test_what_is_not_decided_yet_is_marked():
    entries = ledger_entries(0, 100, service=[IN], spans=[span(end=None, checkpoint=60)], queue=[])
    found = {(entry.box, entry.cause): entry.ms for entry in entries}
    assert found == {(Box.EMPTY, ""): 10, (Box.PROD, ""): 50, (Box.PROD, UNDECIDED): 40}


def test_causes_are_named():
    waiting = [
        IdleCauseChange(at=60, idle_cause=IdleCause.FITS, cause="kept for job 7"),
        IdleCauseChange(at=80, idle_cause=IdleCause.BLOCKED),
    ]
    service = [IN, ServiceChange(gpu=GPU, at=95, out="drained: fan")]
    one = span(cause="user", job_state=State.PENDING)
    entries = ledger_entries(0, 100, service=service, spans=[one], queue=waiting)
    assert {(entry.box, entry.cause): entry.ms for entry in entries} == {
        (Box.EMPTY, ""): 20,
        (Box.LOST, "user"): 40,
        (Box.FITIDLE, "kept for job 7"): 20,
        (Box.FRAG, ""): 15,
        (Box.OUT, "drained: fan"): 5,
    }


def test_out_of_service_comes_first_and_what_is_not_ours_does_not_count():
    service = [ServiceChange(gpu=GPU, at=20), ServiceChange(gpu=GPU, at=40, out="sick")]
    service += [ServiceChange(gpu=GPU, at=60), ServiceChange(gpu=GPU, at=90, managed=False)]
    assert boxes(span(**OK), service=service) == {Box.PROD: 20, Box.OUT: 20, Box.EMPTY: 30}
    assert boxes(span(**OK, end=70), service=service) == {Box.PROD: 30, Box.OUT: 20, Box.EMPTY: 20}
    assert capacity_ms(0, 100, service) == 70


def test_the_hand_over_is_what_lies_between_two_attempts():
    first = span(**OK)
    second = span(id="b", job=2, claimed=55, startable=20, start=58, end=70, **OK)
    assert boxes(first, second) == {Box.PROD: 52, Box.GAP: 8, Box.EMPTY: 40}


def test_attempts_that_share_a_gpu_share_its_time_to_the_millisecond():
    some = [span(id=name, **OK, end=51) for name in "abc"]
    entries = ledger_entries(0, 100, service=[IN], spans=some, queue=[])
    assert sorted(entry.ms for entry in entries if entry.attempt) == [13, 14, 14]
    assert box_totals(entries).capacity == 100


# -- random histories ------------------------------------------------------------------------------------

GPUS = ["GPU-0", "GPU-1", "GPU-2"]
moment = st.integers(0, 120)
maybe = st.none() | moment


@st.composite
def histories(draw, exclusive=False):
    service = draw(
        st.lists(
            st.builds(
                ServiceChange,
                gpu=st.sampled_from(GPUS),
                at=moment,
                out=st.sampled_from(["", "", "sick"]),
                managed=st.sampled_from([True, True, False]),
            ),
            max_size=8,
            unique_by=lambda one: (one.gpu, one.at),
        )
    )
    queue = draw(
        st.lists(
            st.builds(IdleCauseChange, at=moment, idle_cause=st.sampled_from(list(IdleCause))),
            max_size=6,
            unique_by=lambda one: one.at,
        )
    )
    prices = draw(
        st.lists(
            st.builds(
                PriceChange, gpu=st.sampled_from(GPUS), at=moment, micros=st.none() | st.integers(0, 9)
            ),
            max_size=4,
            unique_by=lambda one: (one.gpu, one.at),
        )
    )
    spans = [
        AttemptSpan(
            id=str(number),
            job=number,
            gpus=draw(st.lists(st.sampled_from(GPUS), min_size=1, max_size=3, unique=True)),
            claimed=draw(moment),
            startable=draw(maybe),
            start=draw(maybe),
            progress=draw(maybe),
            checkpoint=draw(maybe),
            stop=draw(maybe),
            end=draw(maybe),
            cause=draw(st.sampled_from(["", "ok", "user", "preempted"])),
            job_state=draw(st.sampled_from(list(State))),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    begin, length = draw(moment), draw(st.integers(0, 80))
    return begin, begin + length, service, spans, queue, prices


@settings(max_examples=120, deadline=None, derandomize=True)
@given(histories())
def test_the_boxes_are_the_capacity_exactly_whatever_the_history(history):
    begin, end, service, spans, queue, prices = history
    entries = ledger_entries(begin, end, service=service, spans=spans, queue=queue, prices=prices)
    assert box_totals(entries).capacity == capacity_ms(begin, end, service)
    assert all(entry.ms > 0 for entry in entries)
    assert len({(e.gpu, e.box, e.cause, e.attempt, e.price) for e in entries}) == len(entries)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(histories(), st.integers(0, 80))
def test_a_window_is_the_sum_of_its_parts(history, cut):
    begin, end, service, spans, queue, _ = history
    middle = min(end, begin + cut)

    def totals(a, b):
        # live attempts are passed_at at from one moment; sharing rounds at the cut
        entries = ledger_entries(a, b, service=service, spans=spans[:1], queue=queue, now=end)
        return Counter({(e.gpu, e.box, e.cause): e.ms for e in entries})

    assert totals(begin, middle) + totals(middle, end) == totals(begin, end)


def slow_box(gpu, at, now, service, spans, queue):
    """The box of one millisecond, by the definitions and one millisecond at a time."""
    ours = [one for one in service if one.gpu == gpu and one.at <= at]
    state = max(ours, key=lambda one: one.at) if ours else None
    if state is None or not state.managed:
        return None
    if state.out:
        return Box.OUT
    for one in spans:
        if gpu in one.gpus:
            for a, b, box, _ in attempt_phases(one, now):
                if a <= at < b:
                    return box
    for one in spans:
        if gpu in one.gpus:
            ends = next((t for t in (one.start, one.end) if t is not None), now)
            if (one.startable if one.startable is not None else one.claimed) <= at < ends:
                return Box.GAP
    line = [one for one in queue if one.at <= at]
    demand = max(line, key=lambda one: one.at).idle_cause if line else IdleCause.NO_DEMAND
    return {IdleCause.NO_DEMAND: Box.EMPTY, IdleCause.FITS: Box.FITIDLE, IdleCause.BLOCKED: Box.FRAG}[demand]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(histories())
def test_every_millisecond_is_in_the_box_of_the_definitions(history):
    begin, end, service, spans, queue, _ = history
    spans = spans[:1]  # exclusive: shares are checked on their own
    expected = Counter()
    for gpu in GPUS:
        for at in range(begin, end):
            box = slow_box(gpu, at, end, service, spans, queue)
            if box is not None:
                expected[gpu, box] += 1
    found = Counter()
    for entry in ledger_entries(begin, end, service=service, spans=spans, queue=queue):
        found[entry.gpu, entry.box] += entry.ms
    assert found == expected


@settings(derandomize=True)
@given(
    ready=st.floats(0, 100),
    now=st.floats(0, 100),
    released=st.none() | st.floats(0, 100),
    passed_at=st.none() | st.floats(0, 100),
    woken_at=st.none() | st.floats(0, 100),
)
def test_the_hand_over_begins_before_the_claim_and_not_before_the_job_was_ready(
    ready, now, released, passed_at, woken_at
):
    ready = min(ready, now)
    begun = startable_at(ready=ready, released=released, passed_at=passed_at, woken_at=woken_at, now=now)
    assert begun <= now
    if passed_at is None or ready >= passed_at:
        assert begun >= ready


# -- a month ---------------------------------------------------------------------------------------------


def a_month(seed, gpus=8, days=30):
    """A simulated month of one machine: jobs of 1 to `gpus` GPUs first come first served, with failures
    and retries from checkpoints, cancels, timeouts, preemptions, drains, a sick GPU, and a daemon that was
    down. Times are milliseconds that are not round."""
    dice = random.Random(seed)
    end = days * 86_400_000
    names = [f"GPU-{i}" for i in range(gpus)]
    free_at = dict.fromkeys(names, 0)
    service = [ServiceChange(gpu=name, at=0) for name in names]
    for _ in range(25):
        name, at = dice.choice(names), dice.randrange(end)
        service.append(ServiceChange(gpu=name, at=at, out=dice.choice(["drained: fan", "sick: no answer"])))
        service.append(ServiceChange(gpu=name, at=at + dice.randrange(1, 9 * 3_600_000)))
    spans, queue, job, submitted = [], [], 0, 0
    while submitted < end:
        job += 1
        submitted += int(dice.expovariate(1 / 1_500_000))
        wide = dice.choice([1, 1, 1, 2, 4, gpus])
        state = dice.choices(
            [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.LOST], [60, 20, 10, 7, 3]
        )[0]
        ready = submitted
        tries = dice.choice([1, 1, 2, 3])
        for number in range(1, tries + 1):
            mine = sorted(names, key=lambda name: free_at[name])[:wide]
            could = max(ready, *(free_at[name] for name in mine))
            claimed = could + dice.randrange(1, 90)
            start = claimed + dice.randrange(5, 400)
            run = int(dice.lognormvariate(14.5, 1.6)) + 1
            last = number == tries
            stop = start + run - dice.randrange(1, 30_000) if dice.random() < 0.2 else None
            if last:
                cause = {State.SUCCEEDED: "ok", State.CANCELLED: "cancelled"}.get(state, "user")
            else:
                cause = dice.choice(["user", "preempted", "infra-node"])
            spans.append(
                AttemptSpan(
                    id=f"{job}.{number}",
                    job=job,
                    gpus=mine,
                    claimed=claimed,
                    startable=could,
                    start=start,
                    progress=start + dice.randrange(60_000) if dice.random() < 0.8 else None,
                    checkpoint=start + dice.randrange(run) if dice.random() < 0.6 else None,
                    stop=stop,
                    end=start + run,
                    cause=cause,
                    job_state=state,
                    job_cause=cause,
                )
            )
            for name in mine:
                free_at[name] = start + run
            if could > ready:
                fits = dice.random() < 0.1
                demand = IdleCause.FITS if fits else IdleCause.BLOCKED
                queue.append(
                    IdleCauseChange(at=ready, idle_cause=demand, cause="kept for job 1" if fits else "")
                )
                queue.append(IdleCauseChange(at=could, idle_cause=IdleCause.NO_DEMAND))
            ready = start + run + dice.randrange(60_000)
    return end, service, spans, queue


def test_a_month_with_faults_adds_up_exactly():
    end, service, spans, queue = a_month(seed=1)
    prices = [PriceChange(gpu=f"GPU-{i}", at=0, micros=2_690_000) for i in range(8)]
    entries = ledger_entries(0, end, service=service, spans=spans, queue=queue, prices=prices)
    whole = box_totals(entries)
    assert whole.capacity == capacity_ms(0, end, service) == 8 * end
    assert all(whole.boxes[box] > 0 for box in Box), "a month in which every box has something"
    days = Counter()
    for day in range(30):
        a, b = day * 86_400_000, (day + 1) * 86_400_000
        one = box_totals(ledger_entries(a, b, service=service, spans=spans, queue=queue, now=end))
        assert one.capacity == 8 * 86_400_000
        days.update(one.boxes)
    assert dict(days) == dict(whole.boxes), "exclusive GPUs: no rounding anywhere"
    assert total_cost(entries) == pytest.approx(8 * 30 * 24 * 2.69)


# -- money -----------------------------------------------------------------------------------------------


def test_an_effective_price_as_economics_has_it():
    """At 2.69 an hour and a capacity goodput of one half, a useful hour costs 5.38."""
    one = span(**OK, start=0, claimed=0, end=MS_PER_HOUR)
    prices = [PriceChange(gpu=GPU, at=0, micros=2_690_000)]
    entries = ledger_entries(0, 2 * MS_PER_HOUR, service=[IN], spans=[one], queue=[], prices=prices)
    assert box_totals(entries).capacity_goodput == 0.5
    assert total_cost(entries) == pytest.approx(5.38)
    assert cost_per_useful_hour(entries) == pytest.approx(5.38)


def test_a_price_is_that_of_the_start_and_no_price_makes_no_money():
    one = span(**OK)
    prices = [PriceChange(gpu=GPU, at=5, micros=36), PriceChange(gpu=GPU, at=30, micros=99)]
    entries = ledger_entries(0, 50, service=[IN], spans=[one], queue=[], prices=prices)
    assert {entry.price for entry in entries if entry.box is Box.PROD} == {36}
    assert total_cost([entry for entry in entries if entry.box is Box.PROD]) == 40 * 36 / MS_PER_HOUR / 1e6
    assert total_cost(entries) is None, "the first 5 ms have no price"
    assert cost_per_useful_hour(entries) is None


def test_goodput_multiplies():
    entries = ledger_entries(0, 200, service=[IN], spans=[span(**OK, progress=20, startable=1)], queue=[])
    whole = box_totals(entries)
    assert whole.scheduling_goodput == pytest.approx(40 / 49)
    assert whole.runtime_goodput == pytest.approx(30 / 40)
    assert whole.goodput == pytest.approx(whole.scheduling_goodput * whole.runtime_goodput)
    assert box_totals([]).goodput is None


def test_checkpoints_by_young():
    assert checkpoint_interval_s(50, 3600) == pytest.approx(600)
    with pytest.raises(ValueError, match="positive"):
        checkpoint_interval_s(0, 1)

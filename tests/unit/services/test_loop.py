"""The loop of the services: a step when woken or due, errors retried, and rest in between."""

import asyncio

import pytest

from leptond.services import loop as module
from leptond.services.loop import MAX_RETRY_S, Loop
from leptond.store import StoreUnavailable
from tests.unit.services.virtual import VirtualTime, time

__all__ = ["time"]


class Steps:
    """A step that notes when it ran; it returns or raises the next of `results`, then the last one again."""

    def __init__(self, time: VirtualTime, *results):
        self.time = time
        self.results = list(results)
        self.at = []

    async def __call__(self):
        self.at.append(round(self.time.now, 3))
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, BaseException):
            raise result
        return result


class Log:
    def __init__(self):
        self.events = []

    def error(self, event, **fields):
        self.events.append((event, fields))


@pytest.fixture
def log(monkeypatch):
    one = Log()
    monkeypatch.setattr(module, "log", one)
    return one


def test_a_step_runs_at_once_and_then_at_its_interval(time):
    steps = Steps(time, 10.0)
    time.start(Loop("x", steps).run())
    time.pass_s(35)
    assert steps.at == [0, 10, 20, 30]


def test_a_first_step_can_wait(time):
    steps = Steps(time, 100.0)
    time.start(Loop("x", steps, first_s=60.0).run())
    time.pass_s(59)
    assert steps.at == []
    time.pass_s(2)
    assert steps.at == [60]


def test_without_an_interval_nothing_happens_until_it_is_woken(time):
    steps = Steps(time, None)
    one = Loop("x", steps)
    time.start(one.run())
    time.pass_s(1)
    assert time.loop.next_at() is None  # no timer stands in the loop
    time.pass_s(1e6)
    one.wake()
    time.pass_s(1)
    assert steps.at == [0, 1e6 + 1]
    assert time.wakeups <= 1


def test_a_wake_cuts_the_interval_short(time):
    steps = Steps(time, 100.0)
    one = Loop("x", steps)
    time.start(one.run())
    time.pass_s(5)
    one.wake()
    time.pass_s(99)
    assert steps.at == [0, 5]  # the interval begins anew


def test_wakes_close_together_make_one_step(time):
    steps = Steps(time, None)
    one = Loop("x", steps, gather_s=0.25)
    time.start(one.run())
    time.pass_s(1)
    for _ in range(5):
        one.wake()
        time.pass_s(0.04)
    time.pass_s(10)
    assert steps.at == [0, 1.25]


def test_a_wake_during_a_step_makes_another_one(time):
    at = []

    async def step():
        at.append(time.now)
        if len(at) == 1:
            one.wake()
            await asyncio.sleep(3)

    one = Loop("x", step)
    time.start(one.run())
    time.pass_s(10)
    assert at == [0, 3]


def test_a_step_that_asks_for_no_pause_lets_others_run(time):
    steps = Steps(time, *[0.0] * 50, None)
    others = []

    async def other():
        for _ in range(10):
            others.append(len(steps.at))
            await asyncio.sleep(0)

    time.start(Loop("x", steps).run())
    time.start(other())
    time.pass_s(1)
    assert len(steps.at) == 51
    assert others[-1] < 51


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), OSError(28, "No space left on device")])
def test_failures_are_logged_as_one_event_and_retried_ever_more_slowly(time, log, error):
    steps = Steps(time, error, error, error, error, None)
    time.start(Loop("copies", steps, retry_s=2.0).run())
    time.pass_s(1000)
    assert [round(at) for at in steps.at] == [0, 2, 6, 14, 14 + MAX_RETRY_S]
    assert {event for event, _ in log.events} == {"service.failed"}
    assert [fields["retry_s"] for _, fields in log.events] == [2.0, 4.0, 8.0, MAX_RETRY_S]
    assert {(fields["service"], fields["error"]) for _, fields in log.events} == {("copies", str(error))}


def test_after_a_success_failures_count_from_one_again(time, log):
    error = StoreUnavailable("locked")
    steps = Steps(time, error, error, 1.0, error, None)
    time.start(Loop("x", steps, retry_s=2.0).run())
    time.pass_s(1000)
    assert [fields["retry_s"] for _, fields in log.events] == [2.0, 4.0, 2.0]


def test_a_long_pause_after_failures_stays_as_long(time, log):
    steps = Steps(time, StoreUnavailable("locked"), StoreUnavailable("locked"), None)
    time.start(Loop("x", steps, retry_s=3600.0).run())
    time.pass_s(8000)
    assert [round(at) for at in steps.at] == [0, 3600, 7200]


def test_wakes_do_not_shorten_the_pause_after_a_failure(time, log):
    steps = Steps(time, StoreUnavailable("locked"), None)
    one = Loop("x", steps, retry_s=5.0)
    time.start(one.run())
    for _ in range(10):
        time.pass_s(0.4)
        one.wake()
    assert len(steps.at) == 1
    time.pass_s(2)
    assert [round(at) for at in steps.at][1] == 5


def test_any_other_error_ends_the_loop(time, log):
    task = time.start(Loop("x", Steps(time, KeyError("bug"))).run())
    time.pass_s(1)
    assert isinstance(task.exception(), KeyError)
    assert log.events == []


@pytest.mark.parametrize("result", [None, 5.0, 0.0, StoreUnavailable("locked")])
def test_it_is_cancelled_wherever_it_waits(time, log, result):
    task = time.start(Loop("x", Steps(time, result), retry_s=3.0).run())
    if result == 0.0:  # it never waits for time to pass
        asyncio._set_running_loop(time.loop)
        for _ in range(100):
            time.loop.step()
        asyncio._set_running_loop(None)
    else:
        time.pass_s(1)
    task.cancel()
    time.pass_s(0)
    assert task.cancelled()

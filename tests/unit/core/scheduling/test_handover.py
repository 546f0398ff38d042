"""When the outlook holds, and what a wake-up of the scheduler calls for."""

import pytest
from msgspec.structs import replace

from leptond.core.scheduling.handover import NO_OUTLOOK, Outlook, Step, WakeReason, next_step

COMMIT, EXTERNAL = WakeReason.COMMIT, WakeReason.EXTERNAL
STANDBY, TIMER, NONE = WakeReason.STANDBY, WakeReason.TIMER, WakeReason.NONE
OUTLOOK = Outlook(version=7, valid_until=100.0, unhealthy={"GPU-1": "lost"}, complete=True)
FACTS = {"version": 7, "now": 99.0, "unhealthy": {"GPU-1": "lost"}, "prepared": 5, "places": 8}


def test_an_outlook_holds_until_anything_that_it_rests_on_changes():
    sick = {"GPU-1": "lost"}
    assert OUTLOOK.holds(7, 99.0, sick)
    assert not OUTLOOK.holds(8, 99.0, sick), "something was committed"
    assert not OUTLOOK.holds(None, 99.0, sick), "something is being committed"
    assert not OUTLOOK.holds(7, 100.0, sick), "a plan might change by itself"
    assert not OUTLOOK.holds(7, 99.0, {}), "a device answers again"
    assert not OUTLOOK.holds(7, 99.0, {**sick, "GPU-2": "lost"}), "another does not answer"
    assert not NO_OUTLOOK.holds(None, 0.0, {}), "there is none"


@pytest.mark.parametrize(
    ("reasons", "step"),
    [
        (NONE, Step.SKIP),
        (COMMIT, Step.SKIP),
        (STANDBY, Step.SKIP),
        (COMMIT | STANDBY, Step.SKIP),
        (EXTERNAL, Step.PASS),
        (COMMIT | EXTERNAL, Step.PASS),
        (TIMER, Step.PASS),
        (COMMIT | TIMER, Step.PASS),
        (STANDBY | TIMER, Step.PASS),
    ],
)
def test_a_hand_over_that_has_planned_anew_makes_passes_for_commits_superfluous(reasons, step):
    assert next_step(reasons, OUTLOOK, **FACTS) is step


@pytest.mark.parametrize(
    ("outlook", "facts"),
    [
        (replace(OUTLOOK, complete=False), {}),
        (NO_OUTLOOK, {}),
        (OUTLOOK, {"version": 8}),
        (OUTLOOK, {"version": None}),
        (OUTLOOK, {"now": 100.0}),
        (OUTLOOK, {"unhealthy": {}}),
        (OUTLOOK, {"prepared": 4}),
        (OUTLOOK, {"prepared": 0, "places": 0}),
    ],
)
@pytest.mark.parametrize(
    ("reasons", "step"),
    [
        (NONE, Step.REFILL),
        (STANDBY, Step.REFILL),
        (COMMIT, Step.PASS),
        (EXTERNAL, Step.PASS),
        (COMMIT | STANDBY, Step.PASS),
        (TIMER, Step.PASS),
        (STANDBY | TIMER, Step.PASS),
    ],
)
def test_else_a_prepared_attempt_calls_for_a_refill_and_all_else_for_a_pass(outlook, facts, reasons, step):
    assert next_step(reasons, outlook, **{**FACTS, **facts}) is step

"""What a wake-up of the scheduler calls for."""

import pytest

from leptond.core.scheduling.handover import Step, WakeReason, next_step

COMMIT, EXTERNAL = WakeReason.COMMIT, WakeReason.EXTERNAL
STANDBY, TIMER, NONE = WakeReason.STANDBY, WakeReason.TIMER, WakeReason.NONE


@pytest.mark.parametrize(
    ("reasons", "at_rest", "replanned", "step"),
    [
        (COMMIT, True, False, Step.SKIP),
        (COMMIT, True, True, Step.SKIP),
        (COMMIT | STANDBY, True, False, Step.SKIP),
        (COMMIT, False, False, Step.PASS),
        (COMMIT, False, True, Step.PASS),
        (STANDBY, True, True, Step.REFILL),
        (STANDBY, False, True, Step.REFILL),
        (NONE, False, True, Step.REFILL),
        (STANDBY, False, False, Step.PASS),
        *[
            (reasons, at_rest, True, Step.PASS)
            for reasons in (EXTERNAL, TIMER, COMMIT | EXTERNAL, COMMIT | TIMER, STANDBY | TIMER)
            for at_rest in (True, False)
        ],
    ],
)
def test_the_least_that_a_wake_up_calls_for(reasons, at_rest, replanned, step):
    assert next_step(reasons, at_rest=at_rest, replanned=replanned) is step

"""The clocks of the machine, and the notice that the wall clock was set."""

import time
from pathlib import Path

import pytest

from leptond.base.clock import JUMP_S, ClockJumps, SystemClock


class Hands:
    """A clock whose hands a test moves."""

    boot_id = "boot"

    def __init__(self):
        self.wall_s, self.boot_s = 1_000_000.0, 50.0

    def wall(self):
        return self.wall_s

    def boot(self):
        return self.boot_s


def test_the_system_clock_says_utc_boot_time_and_the_boot():
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 60
    first = clock.boot()
    assert first <= clock.boot() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert clock.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_time_that_passes_is_no_jump():
    hands = Hands()
    jumps = ClockJumps(hands)
    for passed in (0.0, 3600.0, 86400.0 * 30):
        hands.wall_s += passed
        hands.boot_s += passed
        assert not jumps.any()


@pytest.mark.parametrize("by", [JUMP_S + 0.5, -(JUMP_S + 0.5), 3600.0, -86400.0])
def test_a_clock_that_is_set_is_noticed_once(by):
    hands = Hands()
    jumps = ClockJumps(hands)
    hands.wall_s += 10 + by
    hands.boot_s += 10
    assert jumps.any()
    assert not jumps.any(), "it was reported before"


def test_small_steps_are_no_jump_however_many():
    hands = Hands()
    jumps = ClockJumps(hands)
    for _ in range(20):
        hands.wall_s += 0.5
        assert not jumps.any()

"""A short slice of each campaign: what the full ones try hundreds of times must hold at least once."""

import random

import pytest

from tests.faults import (
    campaign_clocks,
    campaign_cuts,
    campaign_doubles,
    campaign_floods,
    campaign_leaks,
    campaign_pids,
    campaign_restarts,
)

DICE = random.Random(23)


@pytest.fixture
def place(tmp_path_factory):
    """A directory with a name short enough for a socket."""
    return tmp_path_factory.mktemp("p")


def test_killed_shims_and_daemon_leave_nothing_and_free_no_gpu_early(place):
    campaign_restarts.kill_shims(DICE, place, daemon_too=True, count=4)


def test_of_two_daemons_one_gives_way(place):
    campaign_doubles.pairs(DICE, place, kinds=("hardlink", "copy"))


@pytest.mark.skipif(bool(campaign_clocks.why_not()), reason=campaign_clocks.why_not())
def test_a_jumping_wall_clock_changes_nothing(place):
    campaign_clocks.jumps(DICE, place, count=2)


def test_a_frozen_daemon_restarts_no_job(place):
    campaign_restarts.freezes(DICE, place, rounds=1)


def test_a_blocked_loop_stops_the_watchdog(place):
    campaign_restarts.one_hang(DICE, place, allowed_s=1.5)


@pytest.mark.skipif(bool(campaign_pids.why_no_freezer()), reason=campaign_pids.why_no_freezer())
def test_what_cannot_be_killed_drains_its_gpu_alone(place):
    campaign_pids.one_unkillable(DICE, place)


@pytest.mark.skipif(bool(campaign_pids.why_no_namespace()), reason=campaign_pids.why_no_namespace())
def test_whoever_has_the_pid_now_is_left_alone(place):
    campaign_pids.one_reuse(DICE, place)


def test_short_jobs_leave_nothing_in_the_daemon(place):
    campaign_leaks.many_jobs(DICE, place, count=60, idle=campaign_leaks.IDLE)


def test_a_crash_does_not_change_the_order(place):
    campaign_restarts.one_order(DICE, place, count=10)


def test_a_cut_submit_sent_again_is_one_job(place):
    campaign_cuts.cut_everywhere(DICE, place, step=60)


def test_a_crash_between_commit_and_answer_makes_no_second_job(place):
    campaign_cuts.one_crash(DICE, place)


def test_a_flood_of_output_stays_in_its_budget(place):
    campaign_floods.flood(DICE, place, seconds=5, size=4 << 20, count=5)

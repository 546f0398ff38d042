"""Fair share and caps: examples and properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.scheduling.fair_share import (
    Caps,
    Fairness,
    HeldGpus,
    Limits,
    UsageOwner,
    Weights,
    accrued,
    decayed,
    handicaps,
)

WEEK = 7 * 86400.0
ANA, BO, CY = (UsageOwner(name, None, "default") for name in ("ana", "bo", "cy"))
FAIR = Fairness(half_life_s=WEEK, max_handicap_s=1000.0)


def test_use_counts_half_after_a_half_life():
    assert decayed(100.0, WEEK, WEEK) == 50.0
    assert decayed(100.0, -5.0, WEEK) == 100.0, "a clock set back ages nothing"


@settings(max_examples=50, derandomize=True)
@given(st.floats(0.1, 16), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(60, 1e7))
def test_a_use_counts_the_same_booked_whole_or_in_parts(gpus, first_s, second_s, half_life_s):
    whole = accrued(gpus, first_s + second_s, half_life_s)
    split = decayed(accrued(gpus, first_s, half_life_s), second_s, half_life_s)
    assert split + accrued(gpus, second_s, half_life_s) == pytest.approx(whole, rel=1e-9, abs=1e-6)
    assert whole <= gpus * (first_s + second_s) * (1 + 1e-9)


def test_alone_nobody_stands_back():
    assert handicaps({ANA: 1e6}, [ANA], Weights(), FAIR) == {ANA: 0.0}


def test_twice_the_share_is_half_of_the_bound():
    assert handicaps({ANA: 1e6}, [ANA, BO], Weights(), FAIR) == {ANA: pytest.approx(500.0), BO: 0.0}
    assert handicaps({ANA: 1e6}, [ANA, BO, CY], Weights(), FAIR)[ANA] == pytest.approx(750.0)


def test_a_weight_is_a_larger_share():
    used = {ANA: 3e6, BO: 1e6}
    assert handicaps(used, [ANA, BO], Weights(users={"ana": 3.0}), FAIR) == {ANA: 0.0, BO: 0.0}
    assert handicaps(used, [ANA, BO], Weights(), FAIR)[ANA] == pytest.approx(1000 * (1 - 2**-0.5))


def test_queues_and_projects_share_as_users_do():
    one, two = UsageOwner("ana", "a", "fast"), UsageOwner("ana", "b", "slow")
    assert handicaps({one: 1e6}, [one, two], Weights(), FAIR) == {one: pytest.approx(500.0), two: 0.0}
    weights = Weights(projects={"a": 1.0}, queues={"fast": 9.0})
    assert handicaps({one: 1e6}, [one, two], weights, FAIR)[one] == pytest.approx(500.0), "the worst counts"


def test_little_use_says_little():
    assert handicaps({ANA: 36.0}, [ANA, BO], Weights(), FAIR)[ANA] == 0.0
    assert handicaps({ANA: 1e9}, [ANA, BO], Weights(), Fairness(max_handicap_s=0.0)) == {ANA: 0, BO: 0}


owners = st.builds(
    UsageOwner, st.sampled_from("abc"), st.sampled_from([None, "p", "q"]), st.sampled_from(["default", "x"])
)
uses = st.dictionaries(owners, st.floats(0, 1e9), max_size=8)
weights = st.builds(Weights, users=st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 100)))


@settings(max_examples=60, derandomize=True)
@given(uses, st.lists(owners, min_size=1, max_size=6), weights)
def test_a_handicap_is_bounded_and_somebody_has_none(used, claimants, weight):
    """Bounded: so nobody starves. And among those who ask, not all can have had more than their share."""
    found = handicaps(used, claimants, weight, FAIR)
    assert set(found) == set(claimants)
    assert all(0.0 <= seconds <= FAIR.max_handicap_s for seconds in found.values())
    everyone = handicaps(used, [*claimants, *used], weight, FAIR)
    projectless = [owner for owner in everyone if owner.project is None]
    if len({owner.queue for owner in everyone}) == 1 and len(projectless) == len(everyone):
        assert min(everyone.values()) == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=50, derandomize=True)
@given(uses, st.floats(1, 1e9))
def test_who_uses_more_stands_back_no_less(used, more):
    before = handicaps(used, [ANA, BO], Weights(), FAIR)[ANA]
    used = {**used, ANA: used.get(ANA, 0.0) + more}
    assert handicaps(used, [ANA, BO], Weights(), FAIR)[ANA] >= before - 1e-6


# -- caps ------------------------------------------------------------------------------------------------


def test_the_cap_of_one_replaces_that_of_all():
    limits = Limits(users=Caps(max_gpus=2, max_pending=9), own={("user", "bo"): Caps(max_gpus=5)})
    assert limits.of("user", "ana") == Caps(max_gpus=2, max_pending=9)
    assert limits.of("user", "bo") == Caps(max_gpus=5, max_pending=9)
    assert limits.of("project", "bo") == Caps()


def test_who_is_over_a_cap_is_told_which_and_by_which_jobs():
    holders = HeldGpus(Limits(users=Caps(max_gpus=4), own={("project", "p"): Caps(max_gpus=1)}))
    holders.hold(3, "ana", None, 2)
    holders.hold(5, "ana", "q", 1.5)
    assert holders.exceeded_cap("ana", None, 0.5) is None
    assert holders.exceeded_cap("ana", None, 1) == (
        "user ana may hold 4 GPUs at a time and holds 3.5 (jobs 3, 5)",
        [3, 5],
    )
    assert holders.exceeded_cap("ana", None, 5) == (
        "user ana may hold 4 GPUs at a time, and the job needs 5 GPUs",
        [],
    )
    assert holders.exceeded_cap("bo", "p", 2) == (
        "project p may hold 1 GPU at a time, and the job needs 2 GPUs",
        [],
    )
    assert holders.exceeded_cap("ana", None, 0) is None


@settings(max_examples=50, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([None, "p", "q"]), st.sampled_from([0.25, 0.5, 1, 2])
        ),
        max_size=30,
    ),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_starts_that_are_asked_for_never_pass_a_cap(wanted, users, projects):
    holders = HeldGpus(Limits(users=Caps(max_gpus=users), projects=Caps(max_gpus=projects)))
    held = {}
    for job, (user, project, gpus) in enumerate(wanted):
        if holders.exceeded_cap(user, project, gpus) is None:
            holders.hold(job, user, project, gpus)
            for key in (user, project):
                held[key] = held.get(key, 0) + gpus
    assert all(held.get(name, 0) <= users for name in "abc")
    assert all(held.get(name, 0) <= projects for name in "pq")

"""Back-off and budgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import FailureClass
from leptond.core.outcome.classify import signal_name
from leptond.core.outcome.retry import LIMITS, Budget, Past, Spent, Wish, backoff_s, decide, unknown_cause

WISH = Wish(retries=3, delay_s=10, max_delay_s=900)
FRESH = Spent()


def decided(
    cause,
    *,
    exit_code=1,
    signal=None,
    run_s=100.0,
    wish=WISH,
    spent=FRESH,
    past=(),
    roll=0.5,
    stop=None,
    failure_fingerprint=None,
):
    return decide(
        FailureClass(cause),
        exit_code=exit_code,
        signal=signal,
        run_s=run_s,
        wish=wish,
        spent=spent,
        past=past,
        stop_reason=stop,
        roll=roll,
        failure_fingerprint=failure_fingerprint,
    )


@given(
    failures=st.integers(1, 10_000),
    base=st.floats(0.001, 1e4),
    cap=st.floats(0.001, 1e6),
    roll=st.floats(0, 1, exclude_max=True),
)
def test_backoff_is_between_half_and_all_of_the_capped_power(failures, base, cap, roll):
    full = min(cap, base * 2.0 ** min(failures - 1, 60))
    assert full / 2 <= backoff_s(failures, base_s=base, cap_s=cap, roll=roll) <= full


@given(first=st.integers(1, 60), roll=st.floats(0, 1, exclude_max=True))
def test_backoff_never_shrinks_with_more_failures(first, roll):
    one = backoff_s(first, base_s=10, cap_s=900, roll=roll)
    assert backoff_s(first + 1, base_s=10, cap_s=900, roll=roll) >= one


@given(
    # to make room is no failure, and has no budget
    cause=st.sampled_from(sorted(set(FailureClass) - {FailureClass.PREEMPTED})),
    retries=st.integers(0, 5),
    used=st.integers(0, 30),
    code=st.integers(0, 255),
    roll=st.floats(0, 1, exclude_max=True),
)
def test_every_budget_ends(cause, retries, used, code, roll):
    """However a job fails, it is not tried for ever without a person looking at it."""
    spent = Spent(user=used, infra=used, snooze=used, requeue=used)
    wish = Wish(retries=retries, delay_s=1, max_delay_s=10)
    decision = decided(cause, exit_code=code, wish=wish, spent=spent, roll=roll)
    if used >= max(retries, *LIMITS.values()):
        assert not decision.again or decision.hold


@pytest.mark.parametrize(
    "cause", ["ok", "cancelled", "stopped-early", "timeout", "config", "diverged", "user-oom-gpu"]
)
def test_what_would_end_the_same_way_is_not_tried_again(cause):
    assert not decided(cause).again


def test_a_user_failure_spends_the_users_budget():
    decision = decided("user")
    assert (decision.again, decision.budget) == (True, Budget.USER)
    assert not decided("user", spent=Spent(user=3)).again


@pytest.mark.parametrize("cause", ["infra-gpu", "external-kill", "oom-host", "app-gpu", "hang"])
def test_the_machines_fault_does_not(cause):
    decision = decided(cause, wish=Wish(retries=0, delay_s=1, max_delay_s=1))
    assert (decision.again, decision.budget) == (True, Budget.INFRA)


@pytest.mark.parametrize("cause", ["app-gpu", "hang", "infra-gpu"])
def test_a_class_by_output_alone_costs_the_users_budget(cause):
    def paid(retries):
        return decide(
            FailureClass(cause),
            exit_code=1,
            signal=None,
            run_s=100.0,
            wish=Wish(retries=retries, delay_s=1, max_delay_s=1),
            spent=FRESH,
            past=(),
            stop_reason=None,
            roll=0.5,
            is_own=True,
        ).budget

    assert (paid(1), paid(0)) == (Budget.USER, None)


def test_a_second_hang_is_the_users():
    past = [Past(cause=FailureClass.HANG, exit_code=None, signal=6, run_s=500)]
    assert decided("hang", past=past, spent=Spent(infra=1)).budget is Budget.USER


def test_a_class_with_fewer_retries_says_how_many():
    assert decided("hang").why.startswith("infra retry 1 of 1 for class hang in ")
    assert decided("external-kill").why.startswith("infra retry 1 of 3 in ")


def test_tempfail_snoozes_twenty_times():
    assert decided("tempfail", exit_code=75).budget is Budget.SNOOZE
    assert not decided("tempfail", exit_code=75, spent=Spent(snooze=20)).again


def test_a_lost_attempt_is_queued_again_at_once_and_held_in_the_end():
    first = decided("infra-node", exit_code=None)
    assert (first.again, first.delay_s, first.budget) == (True, 0.0, Budget.REQUEUE)
    assert decided("infra-node", exit_code=None, spent=Spent(requeue=5)).hold


def test_no_requeue_forbids_a_second_run_but_not_a_first():
    wish = Wish(retries=3, delay_s=1, max_delay_s=1, requeue=False)
    assert not decided("infra-node", exit_code=None, wish=wish).again
    assert decided("never-started", exit_code=None, wish=wish).again


def test_three_quick_failures_alike_end_the_retries():
    past = [Past(cause=FailureClass.USER, exit_code=1, signal=None, run_s=3)] * 2
    wish = Wish(retries=9, delay_s=1, max_delay_s=1)
    assert not decided("user", run_s=3, past=past, wish=wish, spent=Spent(user=2)).again
    assert decided("user", run_s=3, exit_code=7, past=past, wish=wish, spent=Spent(user=2)).again
    assert decided("user", run_s=300, past=past, wish=wish, spent=Spent(user=2)).again


@pytest.mark.parametrize("word", ["7", "timeout", "SIGTERM"])
def test_retry_on_asks_for_more(word):
    wish = Wish(retries=2, delay_s=1, max_delay_s=1, retry_on=[word])
    seen = {"7": {"cause": "config", "exit_code": 7}, "timeout": {"cause": "timeout", "exit_code": 0}}
    case = seen.get(word, {"cause": "external-kill", "exit_code": None, "signal": 15})
    assert decided(**case, wish=wish).budget is Budget.USER


def test_retry_on_excludes_other_user_failures():
    wish = Wish(retries=2, delay_s=1, max_delay_s=1, retry_on=["7"])
    assert not decided("user", exit_code=1, wish=wish).again


def test_no_retry_on_wins():
    wish = Wish(retries=2, delay_s=1, max_delay_s=1, retry_on=["7"], no_retry_on=["7"])
    assert not decided("user", exit_code=7, wish=wish).again


def test_after_a_cancel_nothing_is_tried_again():
    assert not decided("user", stop="cancel").again


def before(run_s, failure_fingerprint="the error", cause="user"):
    return [
        Past(
            cause=FailureClass(cause),
            exit_code=1,
            signal=None,
            run_s=run_s,
            failure_fingerprint=failure_fingerprint,
        )
    ]


@pytest.mark.parametrize(
    ("earlier", "run_s", "failure_fingerprint", "again"),
    [
        (100.0, 150.0, "the error", False),
        (100.0, 50.0, "the error", False),
        (0.1, 4.0, "the error", False),
        (100.0, 250.0, "the error", True),
        (100.0, 40.0, "the error", True),
        (100.0, 100.0, "another error", True),
        (100.0, 100.0, None, True),
    ],
)
def test_the_same_error_at_the_same_place_is_not_tried_a_third_time(
    earlier, run_s, failure_fingerprint, again
):
    decision = decided(
        "user",
        run_s=run_s,
        past=before(earlier),
        failure_fingerprint=failure_fingerprint,
        spent=Spent(user=1),
    )
    assert decision.again is again
    if not again:
        assert decision.saved == 2, "three retries, one was made"
        assert "the error" in decision.why
        assert "--no-fail-fast" in decision.why


@pytest.mark.parametrize("cause", ["signal", "infra-gpu", "external-kill", "tempfail", "hang", "app-gpu"])
def test_failures_that_retries_exist_for_are_not_judged_by_their_fingerprint(cause):
    decision = decided(
        cause, past=before(100.0, cause=cause), failure_fingerprint="the error", spent=Spent(user=1)
    )
    assert decision.again


def test_failing_fast_can_be_switched_off_or_overruled():
    for wish in (
        Wish(retries=3, delay_s=1, max_delay_s=1, fail_fast=False),
        Wish(retries=3, delay_s=1, max_delay_s=1, retry_on=["1"]),
    ):
        assert decided("user", past=before(100.0), failure_fingerprint="the error", wish=wish).again


def test_only_the_attempt_just_before_counts():
    past = [*before(100.0), *before(100.0, failure_fingerprint="another")]
    assert decided("user", past=past, failure_fingerprint="the error", spent=Spent(user=2)).again


@pytest.mark.parametrize(("cause", "saved"), [("config", 3), ("user-oom-gpu", 3), ("timeout", 0), ("ok", 0)])
def test_user_errors_spare_the_retries_that_were_asked_for(cause, saved):
    assert decided(cause).saved == saved


@given(cause=st.sampled_from(sorted(FailureClass)), code=st.integers(0, 255), number=st.integers(1, 64))
def test_every_name_that_an_end_can_have_may_be_asked_for(cause, code, number):
    for name in (str(cause), str(code), signal_name(number)):
        assert unknown_cause(name) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("user-oomgpu", "did you mean user-oom-gpu?"),
        ("timed-out", "did you mean timeout?"),
        ("xyz", "there are app-gpu, cancelled,"),
        ("256", "from 0 to 255"),
        ("SIGSEV", "is no signal"),
        ("SIGRTMIN+1", "as SIG35"),
        ("SIG9", "is no signal"),
    ],
)
def test_a_name_that_no_end_has_is_refused_with_what_was_meant(name: str, says: str):
    assert says in (unknown_cause(name) or "")

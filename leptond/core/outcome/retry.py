"""The decision to try again, when, and from which budget. Decisions are values; the store carries them
out."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum

import msgspec

from leptond.core.jobs.model import FailureClass, StopReason
from leptond.core.outcome.classify import signal_name


class Budget(StrEnum):
    """The budget that a retry is paid from."""

    USER = "user"  # the job's own --retries
    INFRA = "infra"  # the machine's fault
    SNOOZE = "snooze"  # exit code 75
    PREEMPT = "preempt"  # it made room for another job: never spent up
    REQUEUE = "requeue"  # the attempt never really ran, or its end is unknown


LIMITS = {Budget.INFRA: 3, Budget.SNOOZE: 20, Budget.REQUEUE: 5}
"""The limit of each budget, beside the user's own. Infrastructure failures never touch the
user's budget."""

_PAID_FROM: dict[FailureClass, tuple[Budget, int | None] | None] = {
    FailureClass.OK: None,
    FailureClass.CANCELLED: None,
    FailureClass.STOPPED_EARLY: None,
    FailureClass.TIMEOUT: None,
    FailureClass.PREEMPTED: (Budget.PREEMPT, None),
    FailureClass.CONFIG: None,
    FailureClass.DIVERGED: None,
    FailureClass.USER_OOM_GPU: None,
    FailureClass.USER: (Budget.USER, None),
    FailureClass.SIGNAL: (Budget.USER, None),
    FailureClass.INFRA_OOM_GPU: (Budget.INFRA, None),
    FailureClass.INFRA_GPU: (Budget.INFRA, None),
    FailureClass.EXTERNAL_KILL: (Budget.INFRA, None),
    FailureClass.OOM_HOST: (Budget.INFRA, 1),
    FailureClass.APP_GPU: (Budget.INFRA, 1),
    FailureClass.HANG: (Budget.INFRA, 1),
    FailureClass.TEMPFAIL: (Budget.SNOOZE, None),
    FailureClass.INFRA_NODE: (Budget.REQUEUE, None),
    FailureClass.NEVER_STARTED: (Budget.REQUEUE, None),
}
"""The budget of each class, and a tighter limit where a second failure of the same class means that the
job itself is to blame. None: running it again unchanged would end the same way."""

_USER_ERRORS = frozenset({FailureClass.CONFIG, FailureClass.USER_OOM_GPU, FailureClass.DIVERGED})

_UNNAMED_SIGNAL = re.compile(r"^SIG(3[2-9]|[45][0-9]|6[0-4])\Z")

CRASH_LOOP = 3
CRASH_LOOP_S = 60.0
"""The same exit code this many times in a row, each within this many seconds of its start, ends the
retries: it is not going to get better, and each try costs GPU time."""


ALIKE = 2.0
ALIKE_S = 5.0
"""The same failure fingerprint twice in a row, after run times that differ by no more than this factor (or
are both that short), ends the retries as well: it fails at the same place, and would again. Failures that
retries exist for (signals, the machine's, a job that asks to be tried again) are not judged by it."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The retries of a job that each budget has paid for."""

    user: int = 0
    infra: int = 0
    snooze: int = 0
    requeue: int = 0

    def of(self, budget: Budget) -> int:
        """The count of one budget."""
        count: int = getattr(self, budget.value)
        return count


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier attempt of the same job, as the crash-loop rule needs it."""

    cause: FailureClass | None
    exit_code: int | None
    signal: int | None
    run_s: float
    failure_fingerprint: str | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The retry options of a job."""

    retries: int
    delay_s: float
    max_delay_s: float
    retry_on: Sequence[str] = ()
    no_retry_on: Sequence[str] = ()
    requeue: bool = True
    fail_fast: bool = True


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`again` with `delay_s` from `budget`, or not; `hold` when a person has to look first. `why` is one
    sentence. `saved`: retries that were left and are not made, because they would end the same way."""

    again: bool
    why: str
    delay_s: float = 0.0
    budget: Budget | None = None
    hold: bool = False
    saved: int = 0


def unknown_cause(name: str) -> str | None:
    """Return what is wrong with a name in retry_on or no_retry_on, as a sentence; None for one that the end
    of an attempt can have: an exit code, a signal or a failure class.

    >>> unknown_cause("user-oomgpu")
    "'user-oomgpu' is no failure class; did you mean user-oom-gpu?"
    """
    if name.isdecimal():
        return None if int(name) <= 255 else f"{name} is no exit code: they go from 0 to 255"
    if name.startswith("SIG"):
        if name in signals.Signals.__members__ or _UNNAMED_SIGNAL.match(name):
            return None
        return f"{name} is no signal of this system; one without a name is written by its number, as SIG35"
    classes = sorted(FailureClass)
    if name in classes:
        return None
    near = get_close_matches(name, classes, n=1)
    if near:
        return f"{name!r} is no failure class; did you mean {near[0]}?"
    return f"{name!r} is no failure class; there are {', '.join(classes)}"


def backoff_s(failures: int, *, base_s: float, cap_s: float, roll: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row.

    min(cap, base * 2**(failures - 1)), times a jitter between one half and one ("equal jitter": it
    spreads retries and keeps a floor; M. Brooker, "Exponential Backoff and Jitter", 2015). `roll` is
    uniform in [0, 1) and comes from the caller, so that a simulation replays.

    >>> backoff_s(3, base_s=10, cap_s=900, roll=0.0)
    20.0
    >>> backoff_s(40, base_s=10, cap_s=900, roll=0.5)
    675.0
    """
    if failures < 1:
        raise ValueError("failures are counted from 1")
    full = min(cap_s, base_s * 2.0 ** min(failures - 1, 60))
    return full * (0.5 + roll / 2)


def decide(
    cause: FailureClass,
    *,
    exit_code: int | None,
    signal: int | None,
    run_s: float,
    wish: Wish,
    spent: Spent,
    past: Sequence[Past],
    stop_reason: str | None,
    roll: float,
    failure_fingerprint: str | None = None,
    is_own: bool = False,
) -> Decision:
    """Decide what to do after an attempt that ended with `cause`.

    `past` holds the earlier attempts, oldest first; `roll` is uniform in [0, 1). What is not shown to be
    the machine's fault, whatever its class (`is_own`), draws on no budget but the user's.
    """
    settled = _no_failure(cause, stop_reason)
    if settled is not None:
        return settled

    names = _names(cause, exit_code, signal)
    forbidden = names.intersection(wish.no_retry_on)
    if forbidden:
        return Decision(again=False, why=f"no_retry_on names {min(forbidden)}")
    wanted = bool(names.intersection(wish.retry_on))
    if not wanted and wish.retry_on and (is_own or _PAID_FROM[cause] == (Budget.USER, None)):
        return Decision(again=False, why=f"retry_on does not name {min(names)}")
    paid = _paid_from(cause, wanted=wanted, is_own=is_own)
    left = max(0, wish.retries - spent.user)
    if paid is None:
        return Decision(
            again=False,
            why=f"class {cause} is not retried: it would end the same way again",
            saved=left if cause in _USER_ERRORS else 0,
        )

    budget, tighter = paid
    if budget is Budget.REQUEUE:
        return _requeue(cause, wish, spent)
    if tighter is not None:
        return _few(cause, budget, tighter, wish, spent, past, roll)
    if budget is Budget.USER and not wanted and _crash_loop(exit_code, signal, run_s, past):
        why = f"it failed the same way {CRASH_LOOP} times, each within {CRASH_LOOP_S:.0f} s of its start"
        return Decision(again=False, why=why, saved=left)
    fails_fast = cause is FailureClass.USER and not wanted and wish.fail_fast
    if fails_fast and _alike(failure_fingerprint, run_s, past):
        return Decision(
            again=False,
            why=f"the same error twice in a row, after {past[-1].run_s:.0f} and {run_s:.0f} s:"
            f" another try would end the same way ({failure_fingerprint}); --no-fail-fast tries all the same",
            saved=left,
        )
    limit = wish.retries if budget is Budget.USER else LIMITS[budget]
    return _draw(budget, limit, wish, spent, roll)


def _paid_from(cause: FailureClass, *, wanted: bool, is_own: bool) -> tuple[Budget, int | None] | None:
    """Return the budget of a retry and a tighter limit of its class; None: the class is not retried."""
    paid = _PAID_FROM[cause]
    if wanted or (is_own and paid is not None and paid[0] is Budget.INFRA):
        return (Budget.USER, None)
    return paid


def _no_failure(cause: FailureClass, stop_reason: str | None) -> Decision | None:
    """Return the decision for an end that is no failure; None for a failure."""
    if cause is FailureClass.OK:
        return Decision(again=False, why="it succeeded")
    if cause is FailureClass.CANCELLED or stop_reason == StopReason.CANCEL:
        return Decision(again=False, why="it was cancelled")
    if cause is FailureClass.STOPPED_EARLY or stop_reason == StopReason.HALVING:
        return Decision(again=False, why="its sweep stopped it")
    if cause is FailureClass.PREEMPTED:
        return Decision(again=True, budget=Budget.PREEMPT, why="made room; queued again, no retry spent")
    return None


def unless_unkillable(decision: Decision, unkillable: int) -> Decision:
    """The decision, held for a person when processes of the attempt could not be killed: the
    next attempt would be a second live copy."""
    if not unkillable or not decision.again:
        return decision
    why = "what is left of the attempt cannot be killed: held, lest two copies run"
    return msgspec.structs.replace(decision, hold=True, why=why)


def _draw(budget: Budget, limit: int, wish: Wish, spent: Spent, roll: float) -> Decision:
    used = spent.of(budget)
    if used >= limit:
        words = "no retries were asked for" if limit == 0 else f"all {limit} {budget} retries are spent"
        return Decision(again=False, why=words)
    # the machine's fault needs no growing wait: the next attempt goes elsewhere; but give it the base delay
    failures = 1 if budget is Budget.INFRA else used + 1
    delay = backoff_s(failures, base_s=wish.delay_s, cap_s=wish.max_delay_s, roll=roll)
    return Decision(
        again=True, delay_s=delay, budget=budget, why=f"{budget} retry {used + 1} of {limit} in {delay:.1f} s"
    )


def _few(
    cause: FailureClass,
    budget: Budget,
    tighter: int,
    wish: Wish,
    spent: Spent,
    past: Sequence[Past],
    roll: float,
) -> Decision:
    """Classes that get a few retries from the machine's budget and then count as the user's."""
    before = sum(1 for earlier in past if earlier.cause is cause)
    if before >= tighter or spent.of(budget) >= LIMITS[budget]:
        return _draw(Budget.USER, wish.retries, wish, spent, roll)
    decision = _draw(budget, LIMITS[budget], wish, spent, roll)
    why = f"{budget} retry {before + 1} of {tighter} for class {cause} in {decision.delay_s:.1f} s"
    return msgspec.structs.replace(decision, why=why)


def _requeue(cause: FailureClass, wish: Wish, spent: Spent) -> Decision:
    """Back into the queue at once, without spending an attempt; held when it keeps happening."""
    if not wish.requeue and cause is not FailureClass.NEVER_STARTED:
        return Decision(again=False, why="it may have run, and --no-requeue forbids a second run")
    limit = LIMITS[Budget.REQUEUE]
    if spent.requeue >= limit:
        return Decision(
            again=True,
            budget=Budget.REQUEUE,
            hold=True,
            why=f"the machine failed it {spent.requeue + 1} times: held until somebody has looked",
        )
    # the first time at once; then with growing waits, lest a broken disk spin the daemon
    delay = 0.0 if spent.requeue == 0 else min(60.0, 2.0**spent.requeue)
    return Decision(
        again=True,
        delay_s=delay,
        budget=Budget.REQUEUE,
        why=f"queued again ({spent.requeue + 1} of {limit}), no attempt spent",
    )


def _names(cause: FailureClass, exit_code: int | None, signal: int | None) -> set[str]:
    """The names of this end in retry_on: class, exit code, signal."""
    names = {str(cause)}
    if exit_code is not None:
        names.add(str(exit_code))
    if signal is not None:
        names.add(signal_name(signal))
    return names


def _crash_loop(exit_code: int | None, signal: int | None, run_s: float, past: Sequence[Past]) -> bool:
    recent = list(past)[-(CRASH_LOOP - 1) :]
    if len(recent) < CRASH_LOOP - 1 or run_s >= CRASH_LOOP_S:
        return False
    return all(
        earlier.exit_code == exit_code and earlier.signal == signal and earlier.run_s < CRASH_LOOP_S
        for earlier in recent
    )


def _alike(failure_fingerprint: str | None, run_s: float, past: Sequence[Past]) -> bool:
    if failure_fingerprint is None or not past or past[-1].failure_fingerprint != failure_fingerprint:
        return False
    short, long = sorted((run_s, past[-1].run_s))
    return long <= max(ALIKE_S, ALIKE * short)

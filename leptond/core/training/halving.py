"""Asynchronous successive halving: which trials of a sweep go on. Pure.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020 (ASHA), in the variant that stops:
every trial runs until others are better at a rung. Rungs are at `min_step` times powers of `eta` steps. A
trial that reaches a rung is compared once with those that have reached it before. The first ``eta - 1`` at a
rung always go on, so that no GPU waits for a decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from leptond.core.jobs.model import Attempt

Mode = Literal["min", "max"]

RUNGS = 3
"""Rungs below the end, unless the first rung is given."""

MOST_STEPS = 2**53


class RungDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A value at a rung: the `place`-th of `of`, of which the best `keep` go on."""

    go_on: bool
    place: int
    of: int
    keep: int


def first_rung(total: int, eta: int) -> int:
    """Return the default first rung of a training of `total` steps.

    >>> first_rung(2700, 3), first_rung(5, 3)
    (100, 1)
    """
    return max(1, total // int(eta**RUNGS))


class RungSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of the rungs: `min_step` times powers of `eta`."""

    min_step: int
    eta: int

    def rungs(self, step: int, total: int | None) -> list[int]:
        """Return the rungs at or below `step`, ascending. The end (`total`) is not a rung: nothing is left to
        save there.

        >>> schedule = RungSchedule(min_step=100, eta=3)
        >>> schedule.rungs(900, total=900), schedule.rungs(99, total=None)
        ([100, 300], [])
        """
        found, rung = [], self.min_step
        while rung <= min(step, MOST_STEPS) and (total is None or rung < total):
            found.append(rung)
            rung *= self.eta
        return found


def rungs_reached(
    said: Mapping[int, tuple[int, float | None]],
    shown: Sequence[tuple[int, float | None]],
    *,
    highest: int,
    rule: RungSchedule,
    total: int | None,
) -> dict[int, tuple[int, float | None]]:
    """Return the rungs beyond `highest` that a trial has reached, ascending, each with the step and the value
    that count there.

    `said`: what the trial itself recorded at its rungs. For programs that record nothing there (marker
    lines), `shown` counts, the (step, value) of its progress messages in order: the first at or beyond a
    rung. Of several rungs between two messages only the last counts, and none at the end: a value from much
    later says nothing about a rung.

    >>> rule = RungSchedule(min_step=100, eta=3)
    >>> rungs_reached({}, [(90, 3.0), (110, 2.0), (950, 1.0)], highest=0, rule=rule, total=5000)
    {100: (110, 2.0), 900: (950, 1.0)}
    """
    found = {
        rung: (max(step, rung), value)
        for rung, (step, value) in said.items()
        if rung > highest and rung in rule.rungs(rung, total)
    }
    if said:
        return dict(sorted(found.items()))
    for step, value in shown:
        if total is not None and step >= total:
            continue
        passed = rule.rungs(step, total)
        if passed and passed[-1] > max(highest, *found, 0):
            found[passed[-1]] = (step, value)
    return found


def decide_at_rung(
    value: float | None, so_far: Sequence[float | None], *, mode: Mode, eta: int
) -> RungDecision:
    """Decide if a trial with `value` at a rung goes on.

    `so_far` holds the values of all trials that have reached the rung, its own included; None, like any value
    that is not finite, is worse than every number. It goes on while fewer than `eta` are there, and later if
    it is among the best ``1 / eta`` of them. Equal values share a place.

    >>> decide_at_rung(0.5, [0.9, 0.4, 0.5], mode="min", eta=3)
    RungDecision(go_on=False, place=2, of=3, keep=1)
    """
    costs = [_cost(one, mode) for one in so_far]
    mine = _cost(value, mode)
    place = 1 + sum(1 for cost in costs if cost < mine)
    keep = len(costs) // eta
    go_on = len(costs) < eta or (place <= keep and mine < math.inf)
    return RungDecision(go_on=go_on, place=place, of=len(costs), keep=keep)


def _cost(value: float | None, mode: Mode) -> float:
    if value is None or not math.isfinite(value):
        return math.inf
    return value if mode == "min" else -value


def better(value: float | None, than: float | None, mode: Mode) -> bool:
    """Return True if a value is better than another; a value that is not finite never is.

    >>> better(1.0, None, "min"), better(None, 1.0, "min"), better(2.0, 1.0, "max")
    (True, False, True)
    """
    return _cost(value, mode) < _cost(than, mode)


def explain_stop(rung: int, value: float | None, judgement: RungDecision) -> str:
    """Return the reason why a trial was stopped, for people.

    >>> explain_stop(400, 2.3125, RungDecision(go_on=False, place=9, of=12, keep=4))
    'stopped early: rung 400, value 2.312, 9th of 12; the best 4 go on'
    """
    shown = "not finite" if value is None or not math.isfinite(value) else f"{value:.4g}"
    best = "the best goes on" if judgement.keep == 1 else f"the best {judgement.keep} go on"
    return f"stopped early: rung {rung}, value {shown}, {_ordinal(judgement.place)} of {judgement.of}; {best}"


def _ordinal(number: int) -> str:
    """
    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 21, 112)]
    ['1st', '2nd', '3rd', '4th', '11th', '21st', '112th']
    """
    if 11 <= number % 100 <= 13:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def spared_ms(attempt: Attempt) -> int:
    """Estimate the milliseconds that the remaining steps of an attempt would have taken, at its own seconds a
    step; 0 where its total or its pace is not known."""
    if None in (attempt.step, attempt.first_step, attempt.total_steps) or (
        attempt.progress_at is None or attempt.first_progress_at is None
    ):
        return 0
    assert attempt.step is not None
    assert attempt.first_step is not None
    assert attempt.total_steps is not None
    done, took_s = attempt.step - attempt.first_step, attempt.progress_at - attempt.first_progress_at
    if done <= 0 or took_s <= 0:
        return 0
    return round(max(0, attempt.total_steps - attempt.step) * took_s / done * 1000)

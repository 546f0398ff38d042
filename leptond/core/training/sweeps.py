"""Configurations of a sweep, and the command of each trial. Pure: equal requests with equal seeds make equal
trials."""

from __future__ import annotations

import math
import random
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Literal

import msgspec

from leptond.core.jobs.model import Scalar
from leptond.core.jobs.scalars import choices, scalar

MAX_TRIALS = 1000
MAX_COMBINATIONS = 1_000_000
"""Most combinations of a grid: choosing from more takes too long."""

DIGITS = 4
"""Significant digits of a sampled number, for legibility."""

Params = dict[str, Scalar]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers from `low` to `high`, both included, sampled uniformly or log-uniformly."""

    kind: Literal["log", "uniform", "int"]
    low: float
    high: float


Space = Range | list[Scalar]
"""The distribution of a sampled value: a range, or a list."""


def parse_space(text: str) -> Space:
    """Parse a space: ``log:1e-5..1e-1``, ``uniform:0..0.5``, ``int:1..8``, or words separated by commas.
    Raises ValueError."""
    if not re.match(r"^(log|uniform|int):", text):
        return list(choices(text))
    kind, _, bounds = text.partition(":")
    first, _, last = bounds.partition("..")
    low, high = scalar(first), scalar(last)
    if isinstance(low, str) or isinstance(high, str):
        raise ValueError(  # noqa: TRY004  # of its text
            f"{text[:80]!r} is not a range; write it as log:1e-5..1e-1"
        )
    if kind == "int" and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError(f"the bounds of {text!r} must be whole numbers")
    if kind == "log" and low <= 0:
        raise ValueError(f"{text!r} begins at {low}; a logarithmic range begins above 0")
    if high < low:
        raise ValueError(f"the range {text!r} is empty: it ends before it begins")
    return Range(kind=kind, low=low, high=high)  # type: ignore[arg-type]  # one of the three, by the pattern


def sample(space: Space, dice: random.Random) -> Scalar:
    """Sample a value within the bounds of a space."""
    if isinstance(space, list):
        return space[dice.randrange(len(space))]
    if space.kind == "int":
        return dice.randint(int(space.low), int(space.high))
    if space.kind == "log":
        low, high = math.log(space.low), math.log(space.high)
        value = math.exp(low + (high - low) * dice.random())
    else:
        value = space.low + (space.high - space.low) * dice.random()
    return min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)


def trials(
    grid: Mapping[str, Sequence[Scalar]],
    drawn: Mapping[str, Space],
    *,
    count: int | None,
    seed: int,
) -> list[Params]:
    """Return the configurations of a sweep in the order in which they are tried: `count` of them, or (None)
    every combination of the grid once.

    Combinations come in order, and where there are fewer trials than combinations, a random choice of them.
    Sampled parameters are sampled anew for each trial. Raises ValueError.

    >>> trials({"lr": [0.1, 0.2], "width": [8]}, {}, count=None, seed=0)
    [{'lr': 0.1, 'width': 8}, {'lr': 0.2, 'width': 8}]
    """
    if not grid and not drawn:
        raise ValueError("there is nothing to try: name parameters with a grid, or to be drawn")
    both = sorted(set(grid) & set(drawn))
    if both:
        raise ValueError(f"{both[0]} is in the grid and drawn as well; say one of them")
    for name, values in grid.items():
        if len(set(map(repr, values))) != len(values):
            raise ValueError(f"the grid names a value of {name} twice")
    combinations = math.prod(len(values) for values in grid.values())
    if count is None and drawn:
        raise ValueError("how many trials? Drawn parameters need a number of them")
    wanted = combinations if count is None else count
    if wanted > MAX_TRIALS or combinations > MAX_COMBINATIONS:
        what = f"{wanted} trials" if wanted > MAX_TRIALS else f"a grid of {combinations} combinations"
        most = MAX_TRIALS if wanted > MAX_TRIALS else MAX_COMBINATIONS
        raise ValueError(f"{what} are more than one sweep takes ({most})")
    if not drawn and wanted > combinations:
        raise ValueError(f"the grid has {combinations} combinations, which is less than {wanted} trials")
    dice = random.Random(seed)
    numbers = range(combinations)
    if wanted < combinations:
        numbers_of = sorted(dice.sample(numbers, wanted))
    else:
        numbers_of = [number % combinations for number in range(wanted)]
    names = list(grid)
    points = dict(_picked(grid, set(numbers_of)))
    return [
        {
            **dict(zip(names, points[number], strict=True)),
            **{name: sample(space, dice) for name, space in drawn.items()},
        }
        for number in numbers_of
    ]


def _picked(grid: Mapping[str, Sequence[Scalar]], numbers: set[int]) -> list[tuple[int, tuple[Scalar, ...]]]:
    """Return the combinations of these numbers, in the order of the product."""
    last = max(numbers) + 1
    return [
        (number, point)
        for number, point in enumerate(islice(product(*grid.values()), last))
        if number in numbers
    ]


def argument_text(value: Scalar) -> str:
    """Return a value as an argument: ``0.001``, ``1e-05``, ``adamw``."""
    return value if isinstance(value, str) else repr(value)


def trial_command(
    argv: Sequence[str], params: Mapping[str, Scalar], *, shell: bool, arguments: bool
) -> list[str]:
    """Return a trial's command: each ``{name}`` is replaced with the value, and (`arguments`) values without
    a place are appended as ``--name=value``.

    >>> trial_command(["train.py", "{lr}"], {"lr": 0.1, "width": 8}, shell=False, arguments=True)
    ['train.py', '0.1', '--width=8']
    >>> trial_command(["train.py > {name}.txt"], {"name": "a b"}, shell=True, arguments=True)
    ["train.py > 'a b'.txt"]
    """
    values = {name: argument_text(value) for name, value in params.items()}
    if shell:
        values = {name: shlex.quote(value) for name, value in values.items()}
    placed: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            return match[0]
        placed.add(name)
        return values[name]

    words = [re.sub(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}", fill, word) for word in argv]
    if not arguments:
        return words
    more = [f"--{name}={value}" for name, value in values.items() if name not in placed]
    return [" ".join([words[0], *more])] if shell else [*words, *more]

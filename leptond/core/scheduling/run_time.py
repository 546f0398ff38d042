"""Run time predictions, from earlier runs of the same kind of command.

The mean of the same user's last two runs predicts better than users do (Tsafrir, Etsion and Feitelson, TPDS
2007). A prediction never ends a job; only its time limit does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def command_kind(argv: Sequence[str], *, shell: bool) -> str:
    """Return a short hash of a command with every number taken for the same.

    Members of a sweep, and runs with another seed, are of one kind.

    >>> one, other = ["python", "a.py", "--lr=0.1"], ["python", "a.py", "--lr=3e-4"]
    >>> command_kind(one, shell=False) == command_kind(other, shell=False)
    True
    """
    words = "\0".join(_NUMBER.sub("#", word) for word in argv)
    return hashlib.sha256(f"{int(shell)}\0{words}".encode()).hexdigest()[:16]


def predicted_run_s(last_s: float | None, before_s: float | None) -> float | None:
    """Return the mean of the last two successful runs in seconds; None without any."""
    known = [run_s for run_s in (last_s, before_s) if run_s is not None]
    return max(0.001, sum(known) / len(known)) if known else None


def remaining_run_s(expected_s: float, ran_s: float, limit_s: float | None) -> float:
    """Return the expected rest of a run after `ran_s` seconds. An exceeded prediction is doubled until it
    holds, up to the limit.

    >>> remaining_run_s(100.0, 30.0, None), remaining_run_s(100.0, 250.0, None)
    (70.0, 150.0)
    >>> remaining_run_s(100.0, 250.0, 300.0)
    50.0
    """
    whole_s = max(expected_s, 0.001)
    while whole_s <= ran_s:
        whole_s *= 2
    if limit_s is not None:
        whole_s = max(min(whole_s, limit_s), ran_s)
    return whole_s - ran_s


def smoothed_cost_s(old_s: float | None, new_s: float) -> float:
    """Return the exponential moving mean of preemption costs, in seconds; the newest counts half."""
    return new_s if old_s is None else (old_s + new_s) / 2

"""How long a job will run: from what its like took, never from its limit alone.

The mean of the same user's last two runs is a better prediction than what users say (Tsafrir, Etsion and
Feitelson, TPDS 2007); the limit stays what kills.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def command_kind(argv: Sequence[str], *, shell: bool) -> str:
    """What kind of command it is: its words with every number taken for the same, so that the members of
    a sweep, and a run with another seed, are of one kind. A short hash.

    >>> one, other = ["python", "a.py", "--lr=0.1"], ["python", "a.py", "--lr=3e-4"]
    >>> command_kind(one, shell=False) == command_kind(other, shell=False)
    True
    """
    words = "\0".join(_NUMBER.sub("#", word) for word in argv)
    return hashlib.sha256(f"{int(shell)}\0{words}".encode()).hexdigest()[:16]


def predicted_run_s(last_s: float | None, before_s: float | None) -> float | None:
    """The mean of the last two successful runs; None without any."""
    known = [run_s for run_s in (last_s, before_s) if run_s is not None]
    return max(0.001, sum(known) / len(known)) if known else None


def remaining_run_s(expected_s: float, ran_s: float, limit_s: float | None) -> float:
    """How much longer a run is expected to take after `ran_s`. A prediction that is overrun is doubled
    until it is not, up to the limit.

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
    """The moving mean of what preemptions cost: the newest counts half."""
    return new_s if old_s is None else (old_s + new_s) / 2

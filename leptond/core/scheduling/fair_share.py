"""Fair share and caps: decayed GPU usage, the handicap it causes in the queue, and limits of users and
projects. Usage is in GPU-seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import log
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

MIN_TOTAL_GPU_S = 3600.0
"""One GPU-hour: the least total usage that shares are computed from; below it, they mean little."""

MIN_ACTIVE_GPU_S = 1.0
"""Leave owners below this usage with nothing pending out of the fair-share denominator."""

_SLACK = 1e-9
"""Tolerance in GPUs: shares of GPUs are fractions, and this much too many is rounding."""

Kind = Literal["user", "project"]


class UsageOwner(NamedTuple):
    """User, project and queue that GPU usage is accounted to. Jobs without a project do not share one."""

    user: str
    project: str | None
    queue: str


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of fair share. `half_life_s`: age at which usage counts half. `max_handicap_s`: the most that
    fair share can cost a job, in seconds of waiting; 0 turns it off."""

    half_life_s: Annotated[float, Meta(ge=60, le=10 * 365 * 86400)] = 7 * 86400.0
    max_handicap_s: Annotated[float, Meta(ge=0, le=365 * 86400)] = 4 * 3600.0


def decayed(gpu_s: float, age_s: float, half_life_s: float) -> float:
    """Decay a usage by its age. A negative age, after the clock was set back, does not change it."""
    return float(gpu_s * 0.5 ** (max(0.0, age_s) / half_life_s))


def accrued(gpus: float, held_s: float, half_life_s: float) -> float:
    """Return what an even use of `gpus` for `held_s` seconds counts for at its end, when its beginning has
    decayed.

    The sum is the same whether a use is accounted whole or in parts."""
    rate = log(2) / half_life_s
    faded: float = 0.5 ** (max(0.0, held_s) / half_life_s)
    return gpus * (1.0 - faded) / rate


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Fair-share weights; 1 for names that are not listed."""

    users: Mapping[str, float] = {}
    projects: Mapping[str, float] = {}
    queues: Mapping[str, float] = {}


def handicaps(
    used: Mapping[UsageOwner, float], claimants: Iterable[UsageOwner], weights: Weights, fairness: Fairness
) -> dict[UsageOwner, float]:
    """Return each claimant's handicap in the queue, in seconds from 0 to `max_handicap_s`.

    Every owner with usage or pending jobs is due a share by weight. Usage up to that share costs nothing,
    twice the share costs half of the maximum, three times three quarters, and so on: maximum x (1 -
    2^-(used/due - 1)). Computed for users, projects and queues; the highest counts."""
    claims = list(claimants)
    if fairness.max_handicap_s <= 0:
        return dict.fromkeys(claims, 0.0)
    active = [*claims, *(owner for owner, gpu_s in used.items() if gpu_s >= MIN_ACTIVE_GPU_S)]
    levels = (
        _excess(used, active, lambda owner: owner.user, weights.users),
        _excess(used, active, lambda owner: owner.project, weights.projects),
        _excess(used, active, lambda owner: owner.queue, weights.queues),
    )
    return {
        owner: fairness.max_handicap_s
        * (1.0 - 2.0 ** -max(level.get(name, 0.0) for level, name in zip(levels, owner, strict=True)))
        for owner in claims
    }


def _excess(
    used: Mapping[UsageOwner, float],
    active: Sequence[UsageOwner],
    name_of: Callable[[UsageOwner], str | None],
    weights: Mapping[str, float],
) -> dict[str | None, float]:
    """Return by how many times its due share each name has been exceeded; 0 if it has not."""
    had: dict[str | None, float] = {name_of(owner): 0.0 for owner in active}
    for owner, gpu_s in used.items():
        if name_of(owner) in had:
            had[name_of(owner)] += gpu_s
    had.pop(None, None)
    total = max(MIN_TOTAL_GPU_S, sum(used.values()))
    due = {name: weights.get(name or "", 1.0) for name in had}
    whole = sum(due.values())
    return {name: max(0.0, (gpu_s / total) / (due[name] / whole) - 1.0) for name, gpu_s in had.items()}


# -- caps ------------------------------------------------------------------------------------------------


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """Caps of one user or project: GPUs in use, and pending jobs. None: no cap."""

    max_gpus: float | None = None
    max_pending: int | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Caps of all users and projects: the defaults, and those set for single ones, which replace them."""

    users: Caps = Caps()
    projects: Caps = Caps()
    own: Mapping[tuple[Kind, str], Caps] = {}

    @property
    def any(self) -> bool:
        """True if any cap on running GPUs is set."""
        caps = (self.users, self.projects, *self.own.values())
        return any(one.max_gpus is not None for one in caps)

    def of(self, kind: Kind, name: str) -> Caps:
        """Return the caps in force for a user or a project."""
        usual = self.users if kind == "user" else self.projects
        own = self.own.get((kind, name))
        if own is None:
            return usual
        return Caps(
            max_gpus=own.max_gpus if own.max_gpus is not None else usual.max_gpus,
            max_pending=own.max_pending if own.max_pending is not None else usual.max_pending,
        )


class HeldGpus:
    """GPUs held per user and project, checked against the caps; planned starts are counted in."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[tuple[Kind, str], dict[int, float]] = {}

    def hold(self, job: int, user: str, project: str | None, gpus: float) -> None:
        """Count what a job holds."""
        if gpus > 0:
            for key in _names(user, project):
                self._held.setdefault(key, {})[job] = gpus

    def exceeded_cap(self, user: str, project: str | None, gpus: float) -> tuple[str, list[int]] | None:
        """Return why a start with `gpus` would exceed a cap: a sentence that names the cap, and the jobs that
        fill it.

        None when it would not."""
        if gpus <= 0:
            return None
        for kind, name in _names(user, project):
            cap = self._limits.of(kind, name).max_gpus
            if cap is None:
                continue
            held = self._held.get((kind, name), {})
            has = sum(held.values())
            if has + gpus <= cap + _SLACK:
                continue
            may = f"{kind} {name} may hold {_gpus(cap)} at a time"
            if gpus > cap + _SLACK:
                return f"{may}, and the job needs {_gpus(gpus)}", []
            jobs = sorted(held)
            names = ", ".join(map(str, jobs[:5])) + (", ..." if len(jobs) > 5 else "")
            return f"{may} and holds {_number(has)} (job{'' if len(jobs) == 1 else 's'} {names})", jobs
        return None


def _names(user: str, project: str | None) -> list[tuple[Kind, str]]:
    names: list[tuple[Kind, str]] = [("user", user)]
    if project is not None:
        names.append(("project", project))
    return names


def _number(gpus: float) -> str:
    return f"{gpus:.2f}".rstrip("0").rstrip(".")


def _gpus(count: float) -> str:
    return f"{_number(count)} GPU{'' if count == 1 else 's'}"

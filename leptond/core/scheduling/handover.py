"""The way from the end of a job to the start of the next, as values: which prepared attempts take over from
which running ones, for how long that holds, and what a wake-up of the scheduler calls for. Pure.

The outlook is made by :mod:`leptond.store.planning.successors`; :mod:`leptond.scheduling.successions` sees to
it that the shims act on it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.jobs.model import LeasedGpu
from leptond.core.scheduling.standby import Prepared


class Successor(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared attempt that may take over a slot. `granted_gpu_s`: the GPU time that its job is given by
    that, of `usable_gpus` GPUs in service."""

    prepared: Prepared
    granted_gpu_s: float = 0.0
    usable_gpus: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The successors of some running attempts, in the order in which they start as those end. `slots`: the
    GPUs that each running attempt leaves (none: a CPU slot), by its id; `alike`: another attempt on one of
    these slots would do as well. Until `until` (wall time) time changes nothing of it."""

    slots: Mapping[str, Sequence[LeasedGpu]]
    successors: Sequence[Successor]
    alike: bool
    until: float


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of successors at one moment, and what that rests on. `unhealthy`: the devices that did not
    answer, with the reason."""

    lines: Sequence[Line] = ()
    unhealthy: Mapping[str, str] = {}


NO_OUTLOOK = Outlook()


class WakeReason(enum.Flag):
    """The reasons for which the scheduler wakes up."""

    NONE = 0
    COMMIT = enum.auto()
    """A commit that may let a job start."""
    EXTERNAL = enum.auto()
    """A change that is not in the database: a device, free space on the disk."""
    STANDBY = enum.auto()
    """A prepared attempt has reached its gate."""
    TIMER = enum.auto()
    """The time is over that the last pass allowed."""


class Step(enum.Enum):
    """The answer of the scheduler to a wake-up."""

    SKIP = "skip"
    """Nothing: the last commit was a hand-over that has planned anew itself."""
    REFILL = "refill"
    """Choose the successors among more prepared attempts, on the input of the last pass."""
    PASS = "pass"
    """A whole scheduling pass."""


def next_step(reasons: WakeReason, *, at_rest: bool, replanned: bool) -> Step:
    """Return the least that a wake-up for `reasons` calls for. `at_rest`: since the last pass nothing has
    happened that could change a plan, except that attempts have taken over from others as planned; in
    `replanned`, not even that.

    >>> next_step(WakeReason.COMMIT, at_rest=True, replanned=False).value
    'skip'
    >>> next_step(WakeReason.COMMIT, at_rest=False, replanned=False).value
    'pass'
    >>> next_step(WakeReason.STANDBY, at_rest=True, replanned=True).value
    'refill'
    """
    if WakeReason.TIMER in reasons or WakeReason.EXTERNAL in reasons:
        return Step.PASS
    if WakeReason.COMMIT in reasons:
        return Step.SKIP if at_rest else Step.PASS
    return Step.REFILL if replanned else Step.PASS

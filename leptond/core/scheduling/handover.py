"""The way from the end of a job to the start of the next, as values: which prepared attempt takes over from
which running one, for how long that holds, and what a wake-up of the scheduler calls for. Pure.

The outlook is made by :mod:`leptond.store.planning.successors` and owned by
:mod:`leptond.scheduling.handover`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.jobs.model import LeasedGpu
from leptond.core.scheduling.inputs import CarriedState
from leptond.core.scheduling.standby import Prepared


class Successor(msgspec.Struct, frozen=True, kw_only=True):
    """`prepared` takes the GPUs `gpus` of the attempt `after` when that has ended well. `carried` is what the
    plan passes on; at `wake_at` (wall time; None: never) the plan might be another one."""

    after: str
    prepared: Prepared
    gpus: Sequence[LeasedGpu]
    carried: CarriedState
    wake_at: float | None


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The successors of the running attempts, by the attempt that they follow, and what that rests on.

    `version`: of the store, None for no outlook at all. `valid_until`: when a plan might change by itself
    (wall time). `unhealthy`: the devices that did not answer, with the reason. `complete`: there was nothing
    else to be done at that version, so that no scheduling pass is needed for it."""

    version: int | None = None
    successors: Mapping[str, Successor] = {}
    valid_until: float = 0.0
    unhealthy: Mapping[str, str] = {}
    complete: bool = False

    def holds(self, version: int | None, now: float, unhealthy: Mapping[str, str]) -> bool:
        """Return True if nothing has happened since that could change the successors: the store is
        at the same version, the time has not run out and the same devices are unhealthy."""
        return (
            self.version is not None
            and self.version == version
            and now < self.valid_until
            and self.unhealthy == unhealthy
        )

    @property
    def attempt_ids(self) -> dict[str, str]:
        """The ids of the succeeding attempts, by the attempt that they follow."""
        return {after: successor.prepared.attempt_id for after, successor in self.successors.items()}


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


def next_step(
    reasons: WakeReason,
    outlook: Outlook,
    *,
    version: int | None,
    now: float,
    unhealthy: Mapping[str, str],
    prepared: int,
    places: int,
) -> Step:
    """Return the least that a wake-up for `reasons` calls for.

    A pass is skipped only while at least half of the `places` for prepared attempts are taken (`prepared`):
    it is the pass that fills them.

    >>> at_rest = Outlook(version=7, valid_until=100.0, complete=True)
    >>> facts = {"now": 5.0, "unhealthy": {}, "prepared": 6, "places": 8}
    >>> next_step(WakeReason.COMMIT, at_rest, version=7, **facts).value
    'skip'
    >>> next_step(WakeReason.COMMIT, at_rest, version=8, **facts).value
    'pass'
    >>> next_step(WakeReason.STANDBY, NO_OUTLOOK, version=8, **facts).value
    'refill'
    """
    if WakeReason.TIMER in reasons:
        return Step.PASS
    replanned = outlook.complete and outlook.holds(version, now, unhealthy) and 2 * prepared > places
    if replanned and WakeReason.EXTERNAL not in reasons:
        return Step.SKIP
    if reasons & (WakeReason.COMMIT | WakeReason.EXTERNAL):
        return Step.PASS
    return Step.REFILL

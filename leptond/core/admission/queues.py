"""Queues (partitions): who may submit to which, and what a job in it gets for what it does not say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from leptond.base.errors import Forbidden, Invalid, QueueClosed
from leptond.core.admission.admission import Defaults
from leptond.core.jobs.model import JobSpec

QueueState = Literal["open", "closed"]
Lend = Literal["all", "preemptible", "none"]


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. `closed`: it takes no new jobs; those in it go on. `weight`: its part of the machine beside
    other queues. `max_gpus`: of one job. `users`: who may submit, everybody when empty. `gpus`: UUIDs of
    those that it owns, which it lends, while they are idle, to `all` jobs of queues that `borrow`, only to
    `preemptible` ones, or to `none`."""

    name: str
    state: QueueState = "open"
    weight: float = 1.0
    default_priority: int = 0
    default_time_limit_s: float | None = None
    max_time_limit_s: float | None = None
    max_gpus: int | None = None
    users: Sequence[str] = ()
    borrow: bool = False
    lend: Lend = "all"
    gpus: Sequence[str] = ()
    version: int = 1

    def defaults(self, usual: Defaults) -> Defaults:
        """Return the defaults of a job of this queue; of two limits the stricter counts."""
        limits = [limit for limit in (self.max_time_limit_s, usual.max_time_limit_s) if limit]
        return msgspec.structs.replace(
            usual,
            time_limit_s=self.default_time_limit_s or usual.time_limit_s,
            max_time_limit_s=min(limits, default=0.0),
        )

    def must_be_open(self) -> None:
        """Raises QueueClosed."""
        if self.state == "closed":
            raise QueueClosed(
                f"the queue {self.name} is closed: it takes no new jobs", hint="`leptonctl queues` lists them"
            )

    def admit(self, spec: JobSpec, *, user: str, admin: bool) -> JobSpec:
        """The spec as this queue takes it from `user`, if it is open. Raises Forbidden, Invalid."""
        if self.users and user not in self.users and not admin:
            raise Forbidden(
                f"the queue {self.name} is not for {user}", hint=f"it takes jobs of {', '.join(self.users)}"
            )
        self.check_gpus(spec.gpus)
        if spec.priority == 0 and self.default_priority:
            return msgspec.structs.replace(spec, priority=self.default_priority)
        return spec

    def check_gpus(self, gpus: int) -> None:
        """Raises Invalid for a job wider than the queue takes."""
        if self.max_gpus is not None and gpus > self.max_gpus:
            raise Invalid(
                f"the job asks for {gpus} GPUs, the queue {self.name} takes jobs of at most {self.max_gpus}",
                pointer="/gpus",
                hint="lower --gpus, or choose another --queue",
            )

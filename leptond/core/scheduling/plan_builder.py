"""One plan in the making: what is left of the machine, and the moves that every policy is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.constraints import Rights
from leptond.core.scheduling.inputs import (
    PlanInput,
    Policy,
    Preempt,
    Reservation,
    Running,
    Start,
    Wait,
    Waiting,
)
from leptond.core.scheduling.order_keys import Rank, rank

Order = tuple[bool, int, float, int]
Key = Callable[[Waiting], Order]


class Kept(msgspec.Struct, kw_only=True):
    """A reservation in the making: `job` can start at `at`, and then `spare` GPUs are left beside it.
    `until` names the jobs that are being stopped for it; `closed`: nobody may use them meanwhile; `only`:
    the GPUs that it could have at all, where that is not all of them."""

    job: Waiting
    at: float
    spare: int
    gpus: int = 0
    until: Sequence[int] = ()
    closed: bool = False
    only: frozenset[str] | None = None


class Turn:
    """What a policy moves on; `soft` tells whether any job in sight can be preempted. The policy asks for
    the `queue` in its own order, and then starts, evicts and reserves; every move keeps the books of what
    is left."""

    def __init__(self, inputs: PlanInput) -> None:
        self.waiting = waiting = inputs.waiting
        self.running = running = inputs.running
        self.gpus = gpus = inputs.gpus
        self.cpu_slots = inputs.cpu_slots
        self.now = inputs.now
        self.policy = policy = inputs.policy
        self.memory = inputs.memory
        self.holders: dict[str, list[Running]] = {}
        for job in running:
            for uuid in job.gpus:
                self.holders.setdefault(uuid, []).append(job)
        self.rights = Rights(waiting, running, gpus, policy, self.barred)
        self.free = [gpu for gpu in gpus if gpu.schedulable and gpu.uuid not in self.holders]
        self.usable = sum(1 for gpu in gpus if gpu.schedulable)
        self.coming = [gpu for gpu in gpus if gpu.schedulable and self._stopping(gpu)]
        self.soft = any(job.preemptible for job in running) or any(job.preemptible for job in waiting)
        self.slots = inputs.cpu_slots - sum(1 for job in running if not job.gpus)
        self.starts: list[Start] = []
        self.preempts: list[Preempt] = []
        self.kept: Kept | None = None
        self.claims: list[Kept] = []
        self.wake_at: float | None = None
        self.placed: set[int] = set()
        self._bounds: list[tuple[float, Sequence[str]]] = []
        self._members: dict[int, int] = {}
        for job in running:
            if job.array_id is not None:
                self._members[job.array_id] = self._members.get(job.array_id, 0) + 1

    def _stopping(self, gpu: Gpu) -> bool:
        holders = self.holders.get(gpu.uuid, ())
        return bool(holders) and all(holder.stopping for holder in holders)

    # ------------------------------------------------------------------ the queue

    def queue(self, key: Key) -> list[Waiting]:
        """The jobs that need GPUs and that this machine can hold, in the order of `key`; ties go to the
        older job."""
        fits = self.rights.fits_machine
        return sorted((job for job in self.waiting if 0 < job.gpus <= self.usable and fits(job)), key=key)

    def rank(self, job: Waiting) -> Rank:
        """Its place in the queue, stored or worked out."""
        return rank(job, self.policy) if job.rank is None else Rank(*job.rank)

    def due(self, job: Waiting) -> Order:
        """The order of `auto`: urgent jobs, short ones, then the rest, each by the time that it is due."""
        stored = job.rank if job.rank is not None else rank(job, self.policy)
        if self.soft:
            return (not job.urgent, stored[1], stored[2] + job.handicap_s, job.id)
        return (not job.urgent, 0, stored[3] + job.handicap_s, job.id)

    def submitted(self, job: Waiting) -> Order:
        """The order of submission, with what priority and fair share make of it."""
        stored = job.rank if job.rank is not None else rank(job, self.policy)
        return (not job.urgent, 0, stored[0] + job.handicap_s, job.id)

    def shortest(self, job: Waiting) -> Order:
        """Shortest expected run first."""
        return (not job.urgent, 0, self.rank(job).short_s, job.id)

    def barred(self, job: Waiting) -> Wait | None:
        """What forbids a start although there is room: a cap on jobs of its kind, its user or its project."""
        if job.array_id is None or job.array_limit is None:
            return self.rights.over(job)
        if self._members.get(job.array_id, 0) < job.array_limit:
            return self.rights.over(job)
        return Wait(
            reason=Reason.ARRAY_LIMIT,
            sentence=f"array {job.array_id} runs at most {job.array_limit} of its members at a time",
        )

    def _book(self, job: Waiting) -> None:
        """Counts a start against the caps that `barred` watches."""
        self.placed.add(job.id)
        if job.array_id is not None:
            self._members[job.array_id] = self._members.get(job.array_id, 0) + 1

    # ------------------------------------------------------------------ moves

    def start_cpu_jobs(self) -> None:
        """Jobs that need no GPU have slots of their own: they go in order of submission."""
        if self.slots <= 0:
            return
        for job in sorted((job for job in self.waiting if not job.gpus), key=self.submitted):
            if self.slots <= 0:
                return
            if self.barred(job) is None:
                self.slots -= 1
                self._book(job)
                self.starts.append(Start(id=job.id, gpus=()))

    def start(self, job: Waiting) -> bool:
        """Starts `job` if it may and fits what is free now, beside what is kept for another."""
        share = self.rights.shares(job)
        if (job.gpus > len(self.free) and not share) or self.barred(job) is not None:
            return False
        among: Sequence[Gpu] = self.rights.candidates(job) if share else self.free
        if not self.passes(job):
            among = self._beside(among)
        chosen = self.rights.choose(job, among)
        if chosen is None:
            return False
        self._start(job, chosen)
        return True

    def start_shares(self) -> None:
        """Packs jobs beside others on GPUs of which parts are free, in order of submission: the policy looks
        only as long as whole GPUs are free."""
        for job in sorted(filter(self.rights.shares, self.waiting), key=self.submitted):
            if job.id not in self.placed:
                self.start(job)

    def give_back(self) -> None:
        """Queues that own GPUs have them back from jobs of other queues that can be preempted."""
        owners = {gpu.owner for gpu in self.gpus if gpu.owner is not None}
        for job in sorted(self.waiting, key=self.submitted) if owners else ():
            if job.id in self.placed or not job.gpus or job.queue not in owners:
                continue
            going = {one.id for one in self.preempts}
            victims = self.rights.borrowed(job.queue, [one for one in self.running if one.id not in going])
            if victims and self.rights.fits_machine(job):
                self.make_room(job, victims)

    def _start(self, job: Waiting, chosen: Sequence[str]) -> None:
        self._take(job, chosen)
        self.starts.append(Start(id=job.id, gpus=chosen))

    def _take(self, job: Waiting, chosen: Sequence[str]) -> None:
        self.free = [gpu for gpu in self.free if gpu.uuid not in chosen]
        self.coming = [gpu for gpu in self.coming if gpu.uuid not in chosen]
        ends = self.ends_by(job)
        if self.kept is not None and ends > self.kept.at:
            self.kept.spare -= job.gpus
        self._bounds.append((ends, chosen))
        self.rights.take(job, chosen)
        self._book(job)

    def make_room(self, job: Waiting, victims: Sequence[Running]) -> Sequence[Running] | None:
        """Starts `job`, now or as soon as those have gone that stop for it: on what is free, else on what
        is about to be, else on the GPUs of the fewest of `victims`, the last first. Which of them are told
        to go; None when it cannot have enough, and then nothing happens."""
        if not self.passes(job) or self.barred(job) is not None:
            return None
        chosen = self._choose(job, self.free, ())
        if chosen is not None:
            self._start(job, chosen)
            return ()
        room = [*self.free, *self.coming]
        leaving = {holder.id for gpu in self.coming for holder in self.holders[gpu.uuid]}
        gone: list[Running] = []
        chosen = self._choose(job, room, leaving)
        for victim in reversed(victims):
            if chosen is not None:
                break
            gone.append(victim)
            leaving.add(victim.id)
            room += [gpu for gpu in self.gpus if gpu.schedulable and gpu.uuid in set(victim.gpus)]
            chosen = self._choose(job, room, leaving)
        if chosen is None:
            return None
        wanted = set(chosen)
        gone = [victim for victim in gone if wanted.intersection(victim.gpus)]
        freed = {uuid for victim in gone for uuid in victim.gpus}
        self.coming += [gpu for gpu in room if gpu.uuid in freed]
        until = sorted({holder.id for uuid in chosen for holder in self.holders.get(uuid, ())})
        idle = sum(1 for gpu in self.free if gpu.uuid in wanted)
        self.claims.append(Kept(job=job, at=self.now, spare=0, gpus=idle, until=until))
        self._take(job, chosen)
        self.preempts += [Preempt(id=victim.id, for_id=job.id) for victim in gone]
        return gone

    def _choose(self, job: Waiting, room: Sequence[Gpu], leaving: Collection[int]) -> list[str] | None:
        """The GPUs of `room` that `job` gets once those that are `leaving` have left."""
        return None if job.gpus > len(room) else self.rights.choose(job, room, leaving)

    def reserve(self, job: Waiting, soft: Iterable[Running] = ()) -> None:
        """Keeps GPUs for `job` from the time at which it fits for certain; the GPUs of `soft` can be had at
        any time. What then is left over, and what is idle until then, others may use."""
        only = None if self.rights.any_gpu(job) else frozenset(self.rights.possible(job))
        easy = {holder.id for holder in soft}
        coming = {gpu.uuid for gpu in (*self.free, *self.coming)}
        free = sum(1 for uuid in coming if only is None or uuid in only)
        # a GPU that several share comes free when the last of them ends
        last: dict[tuple[float, int], int] = {}
        for uuid, holders in self.holders.items():
            if uuid in coming or (only is not None and uuid not in only):
                continue
            hard = [one for one in holders if one.id not in easy and not one.stopping]
            if not hard:
                free += 1
                continue
            latest = max((self.frees_by(one), one.id) for one in hard)
            last[latest] = last.get(latest, 0) + 1
        ends = [(end, gpus) for (end, _), gpus in last.items()]
        for end, uuids in self._bounds:
            ends.append((end, sum(1 for uuid in uuids if only is None or uuid in only)))
        at = self.now
        for end, gpus in sorted(ends):
            if free >= job.gpus:
                break
            at, free = end, free + gpus
        self.kept = Kept(job=job, at=at, spare=free - job.gpus if at < math.inf else 0, only=only)

    def close(self) -> None:
        """Nobody passes the job that GPUs are kept for."""
        if self.kept is not None:
            self.kept.closed = True

    def passes(self, job: Waiting) -> bool:
        """Whether a start of `job` now leaves the reservation alone."""
        kept = self.kept
        if kept is None or kept.job.id == job.id:
            return True
        if kept.closed:
            return False
        return job.gpus <= kept.spare or (kept.at < math.inf and self.ends_by(job) <= kept.at)

    @property
    def nobody_beside(self) -> bool:
        """Whether the job that GPUs are kept for could have any GPU, so that there is none beside them."""
        return self.kept is None or self.kept.only is None

    def _beside(self, gpus: Sequence[Gpu]) -> list[Gpu]:
        """Those of `gpus` that the job which GPUs are kept for could not have anyway."""
        only = self.kept.only if self.kept is not None else None
        return [] if only is None else [gpu for gpu in gpus if gpu.uuid not in only]

    # ------------------------------------------------------------------ times

    def ends_by(self, job: Waiting) -> float:
        """When the GPUs of `job` can be had again for certain, if it starts now; infinite without a limit.
        A job that can be preempted gives them back after its minimum run, where the policy preempts."""
        limit_s = math.inf if job.limit_s is None else job.limit_s
        if job.preemptible and self.policy.name in EVICTING:
            limit_s = min(limit_s, least_run_s(job.eviction_cost_s, self.policy))
        return self.now + limit_s

    def frees_by(self, job: Running) -> float:
        """The same for one that runs."""
        end = math.inf if job.limit_s is None else job.started_at + job.limit_s
        if job.preemptible and self.policy.name in EVICTING:
            end = min(end, job.started_at + least_run_s(job.eviction_cost_s, self.policy))
        return max(end, self.now)

    def wake(self, at: float) -> None:
        """Another look is worth it at `at`."""
        if at > self.now and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def reservations(self) -> list[Reservation]:
        """What is kept for whom."""
        found = [
            Reservation(id=claim.job.id, needs=claim.job.gpus, at=claim.at, gpus=claim.gpus)
            for claim in self.claims
        ]
        if self.kept is not None and self.kept.job.id not in self.placed:
            at = self.kept.at if self.kept.at < math.inf else None
            found.append(
                Reservation(id=self.kept.job.id, needs=self.kept.job.gpus, at=at, gpus=len(self.free))
            )
        return found


EVICTING = frozenset({"auto", "throughput"})
"""The policies that preempt."""


def least_run_s(eviction_cost_s: float | None, policy: Policy) -> float:
    """How long an attempt runs before it may be evicted, given what an eviction costs, in seconds.

    With the factor of 20 at most about 5% of the GPU-time is lost to evictions."""
    cost_s = policy.eviction_cost_s if eviction_cost_s is None else eviction_cost_s
    return max(policy.min_run_s, policy.min_run_factor * cost_s)

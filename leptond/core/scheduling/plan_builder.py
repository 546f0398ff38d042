"""Builder of one plan: the capacity that is left, and the moves that every policy is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.constraints import Constraints
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
from leptond.core.scheduling.order_keys import OrderKeys, order_keys

SortKey = tuple[bool, int, float, int]
"""(not urgent, lane, time or run length in seconds, job id): the order of a queue, ascending."""

SortKeyOf = Callable[[Waiting], SortKey]


class HeldReservation(msgspec.Struct, kw_only=True):
    """GPUs held for `job`, which can start at `start_at` (wall time; infinite where a running job has no
    limit).

    `spare_gpus` stay free beside the job once it has started; `idle_gpus` of the free ones are idle for its
    sake until then. `blockers` are the ids of jobs that are being stopped for it. `backfill_disabled`: no
    other job may use the GPUs meanwhile. `eligible_gpus` are the UUIDs that the job could have at all; None:
    any GPU."""

    job: Waiting
    start_at: float
    spare_gpus: int
    idle_gpus: int = 0
    blockers: Sequence[int] = ()
    backfill_disabled: bool = False
    eligible_gpus: frozenset[str] | None = None


class PlanBuilder:
    """The state of a plan while a policy makes it.

    A policy asks for the `queue` in its own order and then starts, preempts and reserves; every move updates
    what is left. `any_preemptible` is true if any job in the input can be preempted. `releasing` are GPUs
    whose holders are all stopping."""

    def __init__(self, inputs: PlanInput) -> None:
        self.waiting = waiting = inputs.waiting
        self.running = running = inputs.running
        self.gpus = gpus = inputs.gpus
        self.cpu_slots = inputs.cpu_slots
        self.now = inputs.now
        self.policy = policy = inputs.policy
        self.carried = inputs.carried
        self.holders: dict[str, list[Running]] = {}
        for job in running:
            for uuid in job.gpus:
                self.holders.setdefault(uuid, []).append(job)
        self.constraints = Constraints(waiting, running, gpus, policy, self.blocking_limit)
        self.free = [gpu for gpu in gpus if gpu.schedulable and gpu.uuid not in self.holders]
        self.usable = sum(1 for gpu in gpus if gpu.schedulable)
        self.releasing = [gpu for gpu in gpus if gpu.schedulable and self._is_releasing(gpu)]
        self.any_preemptible = any(job.preemptible for job in running) or any(
            job.preemptible for job in waiting
        )
        self.free_slots = inputs.cpu_slots - sum(1 for job in running if not job.gpus)
        self.starts: list[Start] = []
        self.preempts: list[Preempt] = []
        self.reservation: HeldReservation | None = None
        self.pending_starts: list[HeldReservation] = []
        self.wake_at: float | None = None
        self.placed: set[int] = set()
        self._planned_ends: list[tuple[float, Sequence[str]]] = []
        self._array_members: dict[int, int] = {}
        for job in running:
            if job.array_id is not None:
                self._array_members[job.array_id] = self._array_members.get(job.array_id, 0) + 1

    def _is_releasing(self, gpu: Gpu) -> bool:
        holders = self.holders.get(gpu.uuid, ())
        return bool(holders) and all(holder.stopping for holder in holders)

    # ------------------------------------------------------------------ the queue

    def queue(self, key: SortKeyOf) -> list[Waiting]:
        """Return the jobs that need GPUs and fit this machine, ordered by `key`."""
        fits = self.constraints.fits_machine
        return sorted((job for job in self.waiting if 0 < job.gpus <= self.usable and fits(job)), key=key)

    def order_keys(self, job: Waiting) -> OrderKeys:
        """Return the stored order keys of `job`, else compute them."""
        return order_keys(job, self.policy) if job.order_keys is None else OrderKeys(*job.order_keys)

    def by_due_time(self, job: Waiting) -> SortKey:
        """Sort key of `auto`: urgent jobs, short jobs, the rest; each by due time."""
        keys = job.order_keys if job.order_keys is not None else order_keys(job, self.policy)
        if self.any_preemptible:
            return (not job.urgent, keys[1], keys[2] + job.handicap_s, job.id)
        return (not job.urgent, 0, keys[3] + job.handicap_s, job.id)

    def by_submit_time(self, job: Waiting) -> SortKey:
        """Sort key by effective submit time: adjusted for priority and fair share."""
        keys = job.order_keys if job.order_keys is not None else order_keys(job, self.policy)
        return (not job.urgent, 0, keys[0] + job.handicap_s, job.id)

    def by_expected_run(self, job: Waiting) -> SortKey:
        """Sort key that puts the shortest expected run first."""
        return (not job.urgent, 0, self.order_keys(job).short_s, job.id)

    def blocking_limit(self, job: Waiting) -> Wait | None:
        """Return the limit of its array, user or project that forbids a start even where GPUs are free."""
        if job.array_id is None or job.array_limit is None:
            return self.constraints.exceeded_cap(job)
        if self._array_members.get(job.array_id, 0) < job.array_limit:
            return self.constraints.exceeded_cap(job)
        return Wait(
            reason=Reason.ARRAY_LIMIT,
            sentence=f"array {job.array_id} runs at most {job.array_limit} of its members at a time",
        )

    def _count_start(self, job: Waiting) -> None:
        self.placed.add(job.id)
        if job.array_id is not None:
            self._array_members[job.array_id] = self._array_members.get(job.array_id, 0) + 1

    # ------------------------------------------------------------------ moves

    def start_cpu_jobs(self) -> None:
        """Start jobs that need no GPU in the free CPU slots, by effective submit time."""
        if self.free_slots <= 0:
            return
        for job in sorted((job for job in self.waiting if not job.gpus), key=self.by_submit_time):
            if self.free_slots <= 0:
                return
            if self.blocking_limit(job) is None:
                self.free_slots -= 1
                self._count_start(job)
                self.starts.append(Start(id=job.id, gpus=()))

    def start(self, job: Waiting) -> bool:
        """Start `job` if no limit forbids it and it fits on free GPUs without delaying the reservation."""
        share = self.constraints.takes_share(job)
        if (job.gpus > len(self.free) and not share) or self.blocking_limit(job) is not None:
            return False
        among: Sequence[Gpu] = self.constraints.candidates(job) if share else self.free
        if not self.may_backfill(job):
            among = self._outside_reservation(among)
        chosen = self.constraints.choose(job, among)
        if chosen is None:
            return False
        self._start(job, chosen)
        return True

    def start_gpu_shares(self) -> None:
        """Pack jobs that take a share of a GPU beside others, by effective submit time.

        Policies stop once no whole GPU is free; this pass fills the partly taken ones."""
        for job in sorted(filter(self.constraints.takes_share, self.waiting), key=self.by_submit_time):
            if job.id not in self.placed:
                self.start(job)

    def reclaim_lent_gpus(self) -> None:
        """Preempt borrowers on GPUs whose owning queue has jobs waiting for them."""
        owners = {gpu.owner for gpu in self.gpus if gpu.owner is not None}
        for job in sorted(self.waiting, key=self.by_submit_time) if owners else ():
            if job.id in self.placed or not job.gpus or job.queue not in owners:
                continue
            preempted = {one.id for one in self.preempts}
            victims = self.constraints.preemptible_borrowers(
                job.queue, [one for one in self.running if one.id not in preempted]
            )
            if victims and self.constraints.fits_machine(job):
                self.make_room(job, victims)

    def _start(self, job: Waiting, chosen: Sequence[str]) -> None:
        self._take(job, chosen)
        self.starts.append(Start(id=job.id, gpus=chosen))

    def _take(self, job: Waiting, chosen: Sequence[str]) -> None:
        self.free = [gpu for gpu in self.free if gpu.uuid not in chosen]
        self.releasing = [gpu for gpu in self.releasing if gpu.uuid not in chosen]
        ends = self.latest_end(job)
        if self.reservation is not None and ends > self.reservation.start_at:
            self.reservation.spare_gpus -= job.gpus
        self._planned_ends.append((ends, chosen))
        self.constraints.record_start(job, chosen)
        self._count_start(job)

    def make_room(self, job: Waiting, victims: Sequence[Running]) -> Sequence[Running] | None:
        """Start `job` now, or as soon as preempted jobs have left.

        Free GPUs come first, then those being released, then the GPUs of as few of `victims` as possible,
        the last first. Return the jobs to preempt; None, with nothing changed, when the job cannot have
        enough."""
        if not self.may_backfill(job) or self.blocking_limit(job) is not None:
            return None
        chosen = self._choose(job, self.free, ())
        if chosen is not None:
            self._start(job, chosen)
            return ()
        obtainable = [*self.free, *self.releasing]
        leaving = {holder.id for gpu in self.releasing for holder in self.holders[gpu.uuid]}
        preempted: list[Running] = []
        chosen = self._choose(job, obtainable, leaving)
        for victim in reversed(victims):
            if chosen is not None:
                break
            preempted.append(victim)
            leaving.add(victim.id)
            obtainable += [gpu for gpu in self.gpus if gpu.schedulable and gpu.uuid in set(victim.gpus)]
            chosen = self._choose(job, obtainable, leaving)
        if chosen is None:
            return None
        wanted = set(chosen)
        preempted = [victim for victim in preempted if wanted.intersection(victim.gpus)]
        freed = {uuid for victim in preempted for uuid in victim.gpus}
        self.releasing += [gpu for gpu in obtainable if gpu.uuid in freed]
        blockers = sorted({holder.id for uuid in chosen for holder in self.holders.get(uuid, ())})
        idle = sum(1 for gpu in self.free if gpu.uuid in wanted)
        self.pending_starts.append(
            HeldReservation(job=job, start_at=self.now, spare_gpus=0, idle_gpus=idle, blockers=blockers)
        )
        self._take(job, chosen)
        self.preempts += [Preempt(id=victim.id, for_id=job.id) for victim in preempted]
        return preempted

    def _choose(self, job: Waiting, gpus: Sequence[Gpu], leaving: Collection[int]) -> list[str] | None:
        """Choose from `gpus` as if the jobs `leaving` had released theirs."""
        return None if job.gpus > len(gpus) else self.constraints.choose(job, gpus, leaving)

    # ------------------------------------------------------------------ the reservation

    def reserve(self, job: Waiting, preemptible: Iterable[Running] = ()) -> None:
        """Reserve GPUs for `job` from the earliest time at which it is certain to fit.

        The GPUs of `preemptible` count as available at any time. Other jobs may backfill: GPUs that are spare
        then, and GPUs that are idle until then."""
        eligible = None
        if not self.constraints.accepts_any_gpu(job):
            eligible = frozenset(self.constraints.eligible_gpus(job))
        movable = {holder.id for holder in preemptible}
        available = {gpu.uuid for gpu in (*self.free, *self.releasing)}
        free = sum(1 for uuid in available if eligible is None or uuid in eligible)
        # a GPU that several share comes free when the last of them ends
        last: dict[tuple[float, int], int] = {}
        for uuid, holders in self.holders.items():
            if uuid in available or (eligible is not None and uuid not in eligible):
                continue
            fixed = [one for one in holders if one.id not in movable and not one.stopping]
            if not fixed:
                free += 1
                continue
            latest = max((self.latest_release(one), one.id) for one in fixed)
            last[latest] = last.get(latest, 0) + 1
        ends = [(end, gpus) for (end, _), gpus in last.items()]
        for end, uuids in self._planned_ends:
            ends.append((end, sum(1 for uuid in uuids if eligible is None or uuid in eligible)))
        start_at = self.now
        for end, gpus in sorted(ends):
            if free >= job.gpus:
                break
            start_at, free = end, free + gpus
        spare = free - job.gpus if start_at < math.inf else 0
        self.reservation = HeldReservation(
            job=job, start_at=start_at, spare_gpus=spare, eligible_gpus=eligible
        )

    def disable_backfill(self) -> None:
        """Disable backfill past the reserved job."""
        if self.reservation is not None:
            self.reservation.backfill_disabled = True

    def may_backfill(self, job: Waiting) -> bool:
        """Return True if a start of `job` now cannot delay the reservation."""
        held = self.reservation
        if held is None or held.job.id == job.id:
            return True
        if held.backfill_disabled:
            return False
        if job.gpus <= held.spare_gpus:
            return True
        return held.start_at < math.inf and self.latest_end(job) <= held.start_at

    @property
    def reserves_any_gpu(self) -> bool:
        """True unless the reserved job is restricted to some of the GPUs."""
        return self.reservation is None or self.reservation.eligible_gpus is None

    def _outside_reservation(self, gpus: Sequence[Gpu]) -> list[Gpu]:
        """Those of `gpus` that the reserved job could not have anyway."""
        eligible = self.reservation.eligible_gpus if self.reservation is not None else None
        return [] if eligible is None else [gpu for gpu in gpus if gpu.uuid not in eligible]

    def reservations(self) -> list[Reservation]:
        """Return the reservations of the finished plan."""
        found = [
            Reservation(id=held.job.id, needs=held.job.gpus, at=held.start_at, gpus=held.idle_gpus)
            for held in self.pending_starts
        ]
        held = self.reservation
        if held is not None and held.job.id not in self.placed:
            at = held.start_at if held.start_at < math.inf else None
            found.append(Reservation(id=held.job.id, needs=held.job.gpus, at=at, gpus=len(self.free)))
        return found

    # ------------------------------------------------------------------ times

    def latest_end(self, job: Waiting) -> float:
        """Return the wall time by which the GPUs of `job` are certain to be available again if it starts now.

        Infinite without a limit. Where the policy preempts, a preemptible job gives them back after its
        exempt time."""
        limit_s = math.inf if job.limit_s is None else job.limit_s
        if job.preemptible and self.policy.name in PREEMPTING_POLICIES:
            limit_s = min(limit_s, preempt_exempt_s(job.eviction_cost_s, self.policy))
        return self.now + limit_s

    def latest_release(self, job: Running) -> float:
        """Return the same for a running job."""
        end = math.inf if job.limit_s is None else job.started_at + job.limit_s
        if job.preemptible and self.policy.name in PREEMPTING_POLICIES:
            end = min(end, job.started_at + preempt_exempt_s(job.eviction_cost_s, self.policy))
        return max(end, self.now)

    def wake_by(self, at: float) -> None:
        """Ask for another pass at `at` (wall time) at the latest."""
        if at > self.now and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at


PREEMPTING_POLICIES = frozenset({"auto", "throughput"})


def preempt_exempt_s(eviction_cost_s: float | None, policy: Policy) -> float:
    """Return how long an attempt runs before it may be preempted (Slurm: PreemptExemptTime), in seconds.

    `eviction_cost_s` is what a preemption loses; None: not measured. With the factor of 20 at most about 5%
    of the GPU time is lost to preemptions."""
    cost_s = policy.eviction_cost_s if eviction_cost_s is None else eviction_cost_s
    return max(policy.min_run_s, policy.min_run_factor * cost_s)

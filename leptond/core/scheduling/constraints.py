"""Constraints on the GPUs of a job beyond their being free: type, shares, queues that own GPUs, caps of users
and projects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling import placement
from leptond.core.scheduling.fair_share import HeldGpus
from leptond.core.scheduling.inputs import Policy, Running, Wait, Waiting
from leptond.core.scheduling.placement import Holding, Need, Occupancy


class Constraints:
    """State of the constraints while one plan is made.

    `blocking_limit` returns the limit that forbids a start even where GPUs are free, if there is one."""

    def __init__(
        self,
        waiting: Sequence[Waiting],
        running: Sequence[Running],
        gpus: Sequence[Gpu],
        policy: Policy,
        blocking_limit: Callable[[Waiting], Wait | None],
    ) -> None:
        self.gpus = gpus
        self._blocking_limit = blocking_limit
        self._plain = not any(gpu.owner is not None or gpu.mig for gpu in gpus)
        self._capped = policy.limits.any
        self._needs: dict[int, Need] = {}
        self._possible: dict[Need, frozenset[str]] = {}
        self._occupancy = Occupancy(
            gpus,
            [
                Holding(job=job.id, uuid=uuid, share_bytes=job.share_bytes, exclusive=job.exclusive)
                for job in running
                for uuid in job.gpus
            ],
        )
        self._held = HeldGpus(policy.limits)
        size = {gpu.uuid: gpu.memory_bytes for gpu in gpus}
        for job in running if self._capped else ():
            share = job.share_bytes
            parts = [1.0 if share is None else share / size.get(uuid, share) for uuid in job.gpus]
            self._held.hold(job.id, job.user, job.project, sum(parts))
        owners = {gpu.owner for gpu in gpus if gpu.owner is not None}
        self._owner_jobs: dict[str, dict[int, Waiting]] = {}
        for one in waiting if owners else ():
            if one.gpus and one.queue in owners:
                self._owner_jobs.setdefault(one.queue, {})[one.id] = one

    # -- what a job asks for -----------------------------------------------------------------------

    def need(self, job: Waiting) -> Need:
        """Return what a job needs of its GPUs."""
        need = self._needs.get(job.id)
        if need is None:
            need = self._needs[job.id] = Need(
                gpus=job.gpus,
                gpu_type=job.gpu_type,
                memory_bytes=job.gpu_memory_bytes,
                exclusive=job.exclusive,
                avoid=tuple(job.avoid),
                queue=job.queue,
                borrow=job.borrow,
                preemptible=job.preemptible,
            )
        return need

    def accepts_any_gpu(self, job: Waiting) -> bool:
        """Return True if any whole GPU of the machine will do."""
        return self._plain and job.gpu_type is None and job.gpu_memory_bytes is None

    def takes_share(self, job: Waiting) -> bool:
        """Return True if a job takes a share of a GPU, beside others."""
        return job.gpu_memory_bytes is not None and not job.exclusive

    def eligible_gpus(self, job: Waiting) -> Collection[str]:
        """Return the UUIDs of GPUs in service that a job could have if they were all free."""
        need = self.need(job)
        found = self._possible.get(need)
        if found is None:
            found = frozenset(gpu.uuid for gpu in placement.eligible(need, self.gpus))
            self._possible[need] = found
        return found

    def fits_machine(self, job: Waiting) -> bool:
        """Return True if a job fits on the GPUs in service once they are free."""
        return self.accepts_any_gpu(job) or job.gpus <= len(self.eligible_gpus(job))

    def candidates(self, job: Waiting) -> list[Gpu]:
        """Return the GPUs that a job could have now, given their holders and these constraints."""
        return placement.candidates(self.need(job), self._occupancy, self._without_withheld(job, self.gpus))

    # -- caps --------------------------------------------------------------------------------------

    def exceeded_cap(self, job: Waiting) -> Wait | None:
        """Return the cap of its user or project that a start of `job` would exceed."""
        if not self._capped or not job.gpus:
            return None
        exceeded = self._held.exceeded_cap(job.user, job.project, self._gpu_equivalents(job))
        if exceeded is None:
            return None
        return Wait(reason=Reason.USER_LIMIT, sentence=exceeded[0], blockers=exceeded[1])

    def _gpu_equivalents(self, job: Waiting) -> float:
        return (
            placement.gpu_equivalents(self.need(job), self.gpus) if self.takes_share(job) else float(job.gpus)
        )

    # -- moves -------------------------------------------------------------------------------------

    def choose(
        self, job: Waiting, among: Iterable[Gpu] | None, gone: Collection[int] = ()
    ) -> list[str] | None:
        """Choose the GPUs of a start from `among` (None: all), as if the jobs `gone` had left; None if too
        few."""
        occupancy = self._occupancy.without(gone) if gone else self._occupancy
        return placement.choose(
            self.need(job), occupancy, self._without_withheld(job, self.gpus if among is None else among)
        )

    def record_start(self, job: Waiting, chosen: Iterable[str]) -> None:
        """Count a planned start."""
        self._occupancy.take(job.id, self.need(job), chosen)
        self._owner_jobs.get(job.queue, {}).pop(job.id, None)
        if self._capped:
            self._held.hold(job.id, job.user, job.project, self._gpu_equivalents(job))

    # -- queues that own GPUs ----------------------------------------------------------------------

    def _without_withheld(self, job: Waiting, gpus: Iterable[Gpu]) -> Iterable[Gpu]:
        """Leave out GPUs whose owning queue has jobs waiting that could start on them: those are not lent."""
        if not self._owner_jobs or not job.borrow:
            return gpus
        claimed = {
            queue for queue in self._owner_jobs if queue != job.queue and self.has_startable_jobs(queue)
        }
        return [gpu for gpu in gpus if gpu.owner not in claimed] if claimed else gpus

    def has_startable_jobs(self, queue: str) -> bool:
        """Return True if a queue that owns GPUs has jobs that wait for nothing but GPUs."""
        jobs: Mapping[int, Waiting] = self._owner_jobs.get(queue, {})
        return any(self.fits_machine(job) and self._blocking_limit(job) is None for job in jobs.values())

    def withheld(self, job: Waiting) -> list[Gpu]:
        """Return the idle GPUs that a job may not have because another queue owns them."""
        if self._plain:
            return []
        free = placement.candidates(
            self.need(job), self._occupancy, [gpu for gpu in self.gpus if gpu.owner != job.queue]
        )
        lent = {gpu.uuid for gpu in self._without_withheld(job, free)}
        return [
            gpu
            for gpu in self.gpus
            if gpu.owner not in (None, job.queue)
            and gpu.schedulable
            and self._occupancy.is_free(gpu)
            and gpu.uuid not in lent
        ]

    def preemptible_borrowers(self, queue: str, running: Iterable[Running]) -> list[Running]:
        """Return the preemptible jobs of `running` that borrow GPUs of `queue`, the last started last."""
        own = {gpu.uuid for gpu in self.gpus if gpu.owner == queue}
        if not own:
            return []
        found = [
            job
            for job in running
            if job.preemptible
            and not job.stopping
            and job.queue != queue
            and job.share_bytes is None
            and own.intersection(job.gpus)
        ]
        return sorted(found, key=lambda job: (job.started_at, job.id))

"""Forecast of start times: the planner itself, simulated forward over expected run times."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.scheduling.inputs import PlanInput, Running, Start, Waiting
from leptond.core.scheduling.order_keys import expected_run_s
from leptond.core.scheduling.planner import plan
from leptond.core.scheduling.run_time import remaining_run_s

MAX_PASSES = 400
"""Most plans of one simulation; later starts are not forecast."""

SPREAD = 2.0
"""Simulations run with expected times divided by this factor, unchanged, and multiplied by it: about two
thirds of real runs lie within (lognormal, sigma 0.7)."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Start (wall time), expected end and GPUs of a job if runs take as long as expected. `end_at` is None
    where nothing is known of the run: no report, no history, no limit."""

    id: int
    start_at: float
    end_at: float | None
    gpus: Sequence[str]


class Eta(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast with its uncertainty: the start if runs are half or twice as long. None: not reached in the
    simulation."""

    likely: Forecast
    earliest_at: float | None
    latest_at: float | None


def is_foreseeable(job: Running | Waiting) -> bool:
    """Return True if anything is known of how long a job runs: its own report, earlier runs, or a limit."""
    if isinstance(job, Running) and (job.stopping or job.reported_left_s is not None):
        return True
    return job.predicted_s is not None or job.limit_s is not None


class _Machine:
    """The simulated machine."""

    def __init__(self, inputs: PlanInput, factor: float) -> None:
        self.now = inputs.now
        self.policy = inputs.policy
        self.factor = factor
        self.running = {job.id: job for job in inputs.running}
        self.waited: dict[int, Waiting] = {}
        self.ends: list[tuple[float, int, float]] = []
        for job in inputs.running:
            if job.stopping:
                heapq.heappush(self.ends, (self.now, job.id, job.started_at))
            else:
                self._schedule_end(job)

    def _schedule_end(self, job: Running) -> None:
        if not is_foreseeable(job):
            return  # it holds what it has for as long as the simulation goes
        earlier_s = job.attained_gpu_s / max(1, len(job.gpus)) if job.preemptible else 0.0
        ran_s = max(0.0, self.now - job.started_at)
        limit_s = None if job.limit_s is None else max(job.limit_s, ran_s)
        if job.reported_left_s is not None:
            left = job.reported_left_s
        else:
            left = remaining_run_s(expected_run_s(job, self.policy) * self.factor, ran_s + earlier_s, None)
        if limit_s is not None:
            left = min(left, limit_s - ran_s)
        heapq.heappush(self.ends, (self.now + max(left, 1e-3), job.id, job.started_at))

    def end_of(self, number: int) -> float | None:
        """Return the expected end of a running job; None where it cannot be foreseen."""
        job = self.running[number]
        ends = (at for at, one, started in self.ends if one == number and started == job.started_at)
        return next(ends, None)

    def start(self, job: Waiting, start: Start) -> float | None:
        """Start a job; return its expected end."""
        self.waited[job.id] = job
        self.running[job.id] = Running(
            id=job.id,
            gpus=start.gpus,
            array_id=job.array_id,
            user=job.user,
            project=job.project,
            queue=job.queue,
            share_bytes=None if job.exclusive else job.gpu_memory_bytes,
            exclusive=job.exclusive,
            priority=job.priority,
            since=job.since,
            started_at=self.now,
            preemptible=job.preemptible,
            urgent=job.urgent,
            limit_s=job.limit_s,
            predicted_s=job.predicted_s,
            attained_gpu_s=job.attained_gpu_s,
            eviction_cost_s=job.eviction_cost_s,
            handicap_s=job.handicap_s,
        )
        self._schedule_end(self.running[job.id])
        return self.end_of(job.id)

    def preempt(self, number: int) -> Waiting:
        """Preempt a job; return it as a waiting one."""
        job = self.running.pop(number)
        ran_s = self.now - job.started_at
        waited = self.waited.get(job.id)
        if waited is not None:
            attained_gpu_s = job.attained_gpu_s + ran_s * len(job.gpus)
            return msgspec.structs.replace(waited, attained_gpu_s=attained_gpu_s, order_keys=None)
        return Waiting(
            id=job.id,
            priority=job.priority,
            gpus=len(job.gpus),
            since=job.since,
            user=job.user,
            project=job.project,
            queue=job.queue,
            gpu_memory_bytes=job.share_bytes,
            exclusive=job.exclusive,
            array_id=job.array_id,
            preemptible=True,
            urgent=job.urgent,
            limit_s=job.limit_s,
            predicted_s=job.predicted_s,
            attained_gpu_s=job.attained_gpu_s + ran_s * len(job.gpus),
            eviction_cost_s=job.eviction_cost_s,
            handicap_s=job.handicap_s,
        )

    def advance(self, wake_at: float | None) -> bool:
        """Advance to the next end, or to `wake_at` if that is earlier; False if there is neither."""
        while self.ends:
            at, number, started = self.ends[0]
            job = self.running.get(number)
            if job is None or job.started_at != started:
                heapq.heappop(self.ends)  # preempted meanwhile
                continue
            if wake_at is not None and wake_at < at:
                self.now = wake_at
                return True
            heapq.heappop(self.ends)
            del self.running[number]
            self.now = max(self.now, at)
            while self.ends and self.ends[0][0] <= self.now:
                _, number, started = heapq.heappop(self.ends)
                job = self.running.get(number)
                if job is not None and job.started_at == started:
                    del self.running[number]
            return True
        return False


class Simulation:
    """The planner run forward from one input, as far as is asked: :meth:`run` goes on where it stopped.

    `found` has the first start of each waiting job that was reached, by id. `factor` scales the expected
    runs; at most `max_passes` plans are made. Later submits are not part of it: jobs that may start earlier
    may yet be submitted."""

    def __init__(self, inputs: PlanInput, *, factor: float = 1.0, max_passes: int = MAX_PASSES) -> None:
        self.found: dict[int, Forecast] = {}
        self._inputs = inputs
        self._machine = _Machine(inputs, factor)
        self._queue = {job.id: job for job in inputs.waiting}
        self._missing = set(self._queue)
        self._carried = inputs.carried
        self._passes_left = max_passes

    def run(self, until: int | None = None) -> None:
        """Go on until the job `until` has started, or to the end."""
        while self._missing and self._passes_left > 0 and (until is None or until not in self.found):
            self._passes_left = self._passes_left - 1 if self._step() else 0

    def _step(self) -> bool:
        """Make one plan and carry it out; False if nothing follows any more."""
        machine = self._machine
        current = msgspec.structs.replace(
            self._inputs,
            waiting=list(self._queue.values()),
            running=list(machine.running.values()),
            now=machine.now,
            carried=self._carried,
        )
        planned = plan(current, explain=False)
        self._carried = planned.carried
        for start in planned.starts:
            job = self._queue.pop(start.id)
            end_at = machine.start(job, start)
            if job.id in self._missing:
                self._missing.discard(job.id)
                self.found[job.id] = Forecast(id=job.id, start_at=machine.now, end_at=end_at, gpus=start.gpus)
        for preempt in planned.preempts:
            self._queue[preempt.id] = machine.preempt(preempt.id)
        return bool(planned.preempts) or machine.advance(planned.wake_at)


def forecast_starts(
    inputs: PlanInput, *, until: int | None = None, factor: float = 1.0, max_passes: int = MAX_PASSES
) -> dict[int, Forecast]:
    """Forecast the first start of each waiting job, by id (:class:`Simulation`)."""
    simulation = Simulation(inputs, factor=factor, max_passes=max_passes)
    simulation.run(until)
    return simulation.found


class StartEstimates:
    """Starts with their uncertainty, from three simulations that go as far as anybody has asked."""

    def __init__(self, inputs: PlanInput, *, max_passes: int = MAX_PASSES) -> None:
        self._simulations = [
            Simulation(inputs, factor=factor, max_passes=max_passes) for factor in (1 / SPREAD, 1.0, SPREAD)
        ]

    def of(self, job_id: int) -> Eta | None:
        """Return the expected start of one job; None where it is not reached."""
        for each in self._simulations:
            each.run(until=job_id)
        return self._eta(job_id)

    def all(self) -> Mapping[int, Eta]:
        """Return the expected starts of all jobs that are reached, by id."""
        for each in self._simulations:
            each.run()
        return self.so_far()

    def so_far(self) -> Mapping[int, Eta]:
        """Return the expected starts as far as the simulations have gone, by id."""
        return {
            job_id: eta for job_id in self._simulations[1].found if (eta := self._eta(job_id)) is not None
        }

    def _eta(self, job_id: int) -> Eta | None:
        short, likely, long = (each.found for each in self._simulations)
        if job_id not in likely:
            return None
        starts = [found[job_id].start_at for found in (short, likely, long) if job_id in found]
        return Eta(
            likely=likely[job_id],
            earliest_at=min(starts),
            latest_at=max(starts) if job_id in long else None,
        )


def estimate_starts(
    inputs: PlanInput, *, until: int | None = None, max_passes: int = MAX_PASSES
) -> Mapping[int, Eta]:
    """Forecast starts with their uncertainty; no further than that of the job `until`."""
    estimates = StartEstimates(inputs, max_passes=max_passes)
    if until is None:
        return estimates.all()
    estimates.of(until)
    return estimates.so_far()

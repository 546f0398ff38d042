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


def forecast_starts(
    inputs: PlanInput, *, until: int | None = None, factor: float = 1.0, max_passes: int = MAX_PASSES
) -> dict[int, Forecast]:
    """Forecast the first start of each waiting job, by id, within `max_passes` plans.

    `factor` scales the expected runs. Stops once job `until` has started. Later submits are not part of it:
    jobs that may start earlier may yet be submitted."""
    machine = _Machine(inputs, factor)
    queue = {job.id: job for job in inputs.waiting}
    carried = inputs.carried
    found: dict[int, Forecast] = {}
    wanted = set(queue)
    for _ in range(max_passes):
        current = msgspec.structs.replace(
            inputs,
            waiting=list(queue.values()),
            running=list(machine.running.values()),
            now=machine.now,
            carried=carried,
        )
        planned = plan(current, explain=False)
        carried = planned.carried
        for start in planned.starts:
            job = queue.pop(start.id)
            end_at = machine.start(job, start)
            if job.id in wanted and job.id not in found:
                found[job.id] = Forecast(id=job.id, start_at=machine.now, end_at=end_at, gpus=start.gpus)
        if (until is not None and until in found) or not wanted - found.keys():
            break
        for preempt in planned.preempts:
            queue[preempt.id] = machine.preempt(preempt.id)
        if not planned.preempts and not machine.advance(planned.wake_at):
            break
    return found


def estimate_starts(
    inputs: PlanInput, *, until: int | None = None, max_passes: int = MAX_PASSES
) -> Mapping[int, Eta]:
    """Forecast starts with their uncertainty, from three simulations."""
    short, likely, long = (
        forecast_starts(inputs, until=until, factor=factor, max_passes=max_passes)
        for factor in (1 / SPREAD, 1.0, SPREAD)
    )
    found = {}
    for number, forecast in likely.items():
        starts = [each[number].start_at for each in (short, likely, long) if number in each]
        found[number] = Eta(
            likely=forecast,
            earliest_at=min(starts),
            latest_at=max(starts) if number in long else None,
        )
    return found

"""When jobs will start: the planner itself, run forward over what jobs are expected to take."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.scheduling.inputs import PlanInput, Running, Start, Waiting
from leptond.core.scheduling.order_keys import expected_run_s
from leptond.core.scheduling.planner import plan
from leptond.core.scheduling.run_time import remaining_run_s

MAX_PASSES = 400
"""Most plans that one forward run makes: what starts later than that is not foretold."""

SPREAD = 2.0
"""Runs are foretold for expected times that are this factor too long, right, and too short: about two thirds
of real runs are within it (lognormal, sigma 0.7)."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """When and where a job starts, and when it ends, if runs take what is expected."""

    id: int
    start_at: float
    end_at: float
    gpus: Sequence[str]


class Eta(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast with its uncertainty: the start if runs are half as long, and twice. None: not within the
    reach of the forward run."""

    likely: Forecast
    earliest_at: float | None
    latest_at: float | None


class _Machine:
    """The state of the machine in the forward run."""

    def __init__(self, inputs: PlanInput, factor: float) -> None:
        self.now = inputs.now
        self.policy = inputs.policy
        self.factor = factor
        self.running = {job.id: job for job in inputs.running}
        self.asked: dict[int, Waiting] = {}
        self.ends: list[tuple[float, int, float]] = []
        for job in inputs.running:
            if job.stopping:
                heapq.heappush(self.ends, (self.now, job.id, job.started_at))
            else:
                self._will_end(job)

    def _will_end(self, job: Running) -> None:
        earlier_s = job.attained_gpu_s / max(1, len(job.gpus)) if job.preemptible else 0.0
        ran_s = max(0.0, self.now - job.started_at)
        limit_s = None if job.limit_s is None else max(job.limit_s, ran_s)
        left = remaining_run_s(expected_run_s(job, self.policy) * self.factor, ran_s + earlier_s, None)
        if limit_s is not None:
            left = min(left, limit_s - ran_s)
        heapq.heappush(self.ends, (self.now + max(left, 1e-3), job.id, job.started_at))

    def end_of(self, number: int) -> float:
        """When a running job is expected to end."""
        job = self.running[number]
        return next(at for at, one, started in self.ends if one == number and started == job.started_at)

    def begin(self, job: Waiting, start: Start) -> float:
        """A start; when it is expected to end."""
        self.asked[job.id] = job
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
        self._will_end(self.running[job.id])
        return self.end_of(job.id)

    def evict(self, number: int) -> Waiting:
        """A preemption: the job waits again."""
        job = self.running.pop(number)
        ran_s = self.now - job.started_at
        asked = self.asked.get(job.id)
        if asked is not None:
            attained_gpu_s = job.attained_gpu_s + ran_s * len(job.gpus)
            return msgspec.structs.replace(asked, attained_gpu_s=attained_gpu_s, order_keys=None)
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

    def go_on(self, wake_at: float | None) -> bool:
        """To the next end, or the next time that matters by itself. False when there is none."""
        while self.ends:
            at, number, started = self.ends[0]
            job = self.running.get(number)
            if job is None or job.started_at != started:
                heapq.heappop(self.ends)  # it was evicted meanwhile
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
    """The first start of each job that waits now, by id, as far as `looks` plans reach. Stops when the job
    `until` has started. Jobs that come later are not in it: who may pass a job may come and do so."""
    world = _Machine(inputs, factor)
    queue = {job.id: job for job in inputs.waiting}
    carried = inputs.carried
    found: dict[int, Forecast] = {}
    wanted = set(queue)
    for _ in range(max_passes):
        now = msgspec.structs.replace(
            inputs,
            waiting=list(queue.values()),
            running=list(world.running.values()),
            now=world.now,
            carried=carried,
        )
        made = plan(now, explain=False)
        carried = made.carried
        for start in made.starts:
            job = queue.pop(start.id)
            end_at = world.begin(job, start)
            if job.id in wanted and job.id not in found:
                found[job.id] = Forecast(id=job.id, start_at=world.now, end_at=end_at, gpus=start.gpus)
        if (until is not None and until in found) or not wanted - found.keys():
            break
        for preempt in made.preempts:
            queue[preempt.id] = world.evict(preempt.id)
        if not made.preempts and not world.go_on(made.wake_at):
            break
    return found


def estimate_starts(
    inputs: PlanInput, *, until: int | None = None, max_passes: int = MAX_PASSES
) -> Mapping[int, Eta]:
    """Forecasts with their uncertainty: three forward runs."""
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

"""From stored values to the shapes of HTTP. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from leptond import schema
from leptond.attempt_files import layout
from leptond.core.accounting.report_types import SampledUse
from leptond.core.jobs import elapsed, model
from leptond.core.jobs.fields import names
from leptond.core.jobs.instants import clamped
from leptond.core.jobs.model import LIVE, State
from leptond.core.jobs.resubmit import HIDDEN, line
from leptond.core.jobs.secret_values import SECRET_NAME
from leptond.core.jobs.sources import SourceFile
from leptond.core.jobs.states import AttemptState
from leptond.core.outcome.classify import signal_name
from leptond.core.scheduling.forecast import Eta
from leptond.core.scheduling.overdue import Turn
from leptond.core.scheduling.planner import Wait
from leptond.core.training.progress import pace
from leptond.gpus.base import Sample
from leptond.services.gpu_history import Bucket
from leptond.store.accounting.timeline import Lane
from leptond.store.database import events
from leptond.store.queue.dependencies import Dependency
from leptond.store.queue.gpus import KnownGpu
from leptond.store.training.progress import Curve

_SHOWN = names(shown=True)
_shown_of: Callable[[model.Job], tuple[Any, ...]] = attrgetter(*_SHOWN)


def instant(seconds: float) -> datetime:
    """UTC, to the millisecond; an odd one is shown as the nearest that can be written."""
    return clamped(seconds)


def maybe_instant(seconds: float | None) -> datetime | None:
    """As :func:`instant`; None stays None."""
    return None if seconds is None else instant(seconds)


_ON_THE_JOB = ("contact", "open_mode", "cuda_devices", "mem_bytes", "cpus")
"""Fields of a spec that only the job shows."""


def shown_spec(spec: model.JobSpec) -> model.JobSpec:
    """The spec without the values of variables whose names speak of secrets, and without the fields that only
    the job has: clients of 0.4.0 refuse a spec with fields that they do not know."""
    env = {name: HIDDEN if SECRET_NAME.search(name) else value for name, value in spec.env.items()}
    return msgspec.structs.replace(spec, env=env, script=UNSET, **dict.fromkeys(_ON_THE_JOB, UNSET))


def job(
    one: model.Job,
    attempts: Sequence[model.Attempt],
    *,
    now: float,
    wait: Wait | None,
    jobs_dir: Path,
    checkpoints_dir: Path,
    boot: float,
    starts_at: float | None = None,
) -> schema.Job:
    """A job for a list: its newest attempt counts, its attempts are not spelled out."""
    last = attempts[-1] if attempts else None
    live = one.state in LIVE
    return schema.Job(
        **dict(zip(_SHOWN, _shown_of(one), strict=True)),
        ref=one.ref,
        open_mode=one.spec.open_mode or None,
        reason=wait.reason if wait is not None else None,
        reason_detail=wait.sentence if wait is not None else None,
        submitted_at=instant(one.submitted_at),
        eligible_at=maybe_instant(one.backoff_at if one.backoff_at is not None else one.begin_at),
        starts_at=maybe_instant(starts_at),
        started_at=maybe_instant(one.started_at),
        ended_at=maybe_instant(one.ended_at),
        deadline_at=maybe_instant(one.deadline_at),
        run_s=run_s(one, last, now=now, boot=boot),
        retries_left=max(0, one.retries - one.spent_user),
        signal=signal_name(one.signal) if one.signal is not None else None,
        class_=one.class_,
        gpu_indices=[gpu.index for gpu in last.gpus] if live and last is not None else [],
        gpu_seconds=sum(gpu_seconds(each, boot) for each in attempts),
        checkpoint_dir=str(checkpoints_dir / str(one.checkpoint_id)),
        log_path=str(jobs_dir / str(one.id) / str(last.number) / layout.OUTPUT) if last is not None else None,
        progress=progress(last, now) if last is not None else None,
        tuned={name: asked.value for name, asked in one.tuned.items()},
        spec=shown_spec(one.current_spec()),
    )


def resubmit(shown: schema.Job) -> str:
    """The command line that submits a job again."""
    spec = msgspec.to_builtins(shown.spec) | {name: getattr(shown, name) for name in _ON_THE_JOB}
    has_copy = shown.script_sha256 is not None
    return line(spec, name=shown.name, array_index=shown.array_index, has_copy=has_copy)


def progress(one: model.Attempt, now: float) -> schema.Progress | None:
    """Return the progress that an attempt has reported; None when it has reported none."""
    if one.progress_at is None:
        return None
    speed = pace(one, now)
    return schema.Progress(
        attempt=one.number,
        step=one.step,
        total=one.total_steps,
        metrics=one.metrics,
        steps_per_s=round(speed.steps_per_s, 6) if speed.steps_per_s is not None else None,
        left_s=round(speed.left_s, 3) if speed.left_s is not None else None,
        first_at=maybe_instant(one.first_progress_at),
        at=maybe_instant(one.progress_at),
        checkpoint_step=one.checkpoint_step,
        checkpoint_at=maybe_instant(one.checkpoint_at),
        knobs=one.knobs,
    )


def curve(job_id: int, one: Curve, marks: Sequence[events.Event]) -> schema.MetricCurve:
    """A job's curve, with what its knobs were turned to."""
    return schema.MetricCurve(
        job_id=job_id,
        stride=one.stride,
        reports=one.seen,
        points=[
            schema.MetricPoint(
                attempt=point.attempt, step=point.step, at=instant(point.at), values=point.values
            )
            for point in one.points
        ],
        marks=[
            schema.MetricMark(kind=mark.type, attempt=mark.attempt, at=instant(mark.at), data=mark.data)
            for mark in marks
        ],
    )


def run_s(one: model.Job, last: model.Attempt | None, *, now: float, boot: float) -> float | None:
    if last is None:
        return None
    if last.run_s is not None:
        return round(last.run_s, 3)
    if last.started_at is None or one.state not in LIVE:
        return None
    claimed_at = elapsed.since(last.claimed_at, last.claimed_boot, now=now, boot=boot)
    return round(max(0.0, now - claimed_at - max(0.0, last.started_at - last.claimed_at)), 3)


def gpu_seconds(one: model.Attempt, boot: float) -> float:
    """GPU time of an attempt, up to now if it is alive."""
    if one.state is AttemptState.ENDED:
        return one.gpu_ms / 1000
    return round(max(0.0, boot - one.claimed_boot) * one.gpu_parts, 3)


def attempt(one: model.Attempt, *, boot: float) -> schema.Attempt:
    """An attempt with all that is known of its end."""
    return schema.Attempt(
        number=one.number,
        id=one.id,
        state=one.state,
        claimed_at=instant(one.claimed_at),
        started_at=maybe_instant(one.started_at),
        ended_at=maybe_instant(one.ended_at),
        run_s=round(one.run_s, 3) if one.run_s is not None else None,
        exit_code=one.exit_code,
        signal=signal_name(one.signal) if one.signal is not None else None,
        class_=one.class_,
        rule=one.rule,
        evidence=one.evidence,
        explanation=one.explanation,
        stop_reason=one.stop_reason,
        pid=one.pid,
        gpus=[
            schema.AttemptGpu(uuid=gpu.uuid, index=gpu.index, memory_bytes=gpu.memory_bytes)
            for gpu in one.gpus
        ],
        gpu_seconds=gpu_seconds(one, boot),
        retry=one.retry,
        signature=one.failure_fingerprint,
        log_bytes=one.log_bytes,
        log_dropped_bytes=one.log_dropped_bytes,
        start=one.start,
        peak_mem_bytes=one.peak_mem_bytes,
        notes=one.notes,
    )


def source(one: SourceFile) -> schema.SourceFile:
    """A file that a command names."""
    modified_at = instant(one.modified_ns / 1e9)
    return schema.SourceFile(path=one.path, bytes=one.size, modified_at=modified_at, sha256=one.sha256)


def dependency(one: Dependency) -> schema.Dependency:
    """A dependency of a job."""
    return schema.Dependency(on_job_id=one.on_job_id, on_ref=one.on_ref, kind=one.kind, state=one.state)


def gpu(
    known: KnownGpu, sample: Sample | None, sick: Mapping[str, str], pids: Mapping[int, int]
) -> schema.Gpu:
    """A device with its newest sample. `pids`: the jobs that hold it, by the pids of their commands."""
    if not known.present:
        why_not: str | None = "not present"
    elif known.drained:
        why_not = f"drained: {known.drain_reason}"
    else:
        why_not = sick.get(known.uuid)
    return schema.Gpu(
        index=known.index,
        uuid=known.uuid,
        name=known.name,
        simulated=known.simulated,
        present=known.present,
        mig=known.mig,
        numa_node=known.numa_node,
        cpus=known.cpus,
        links=known.links,
        memory_total_bytes=known.memory_bytes,
        memory_used_bytes=sample.memory_used_bytes if sample is not None else None,
        utilization=sample.utilization if sample is not None else None,
        temperature_c=sample.temperature_c if sample is not None else None,
        power_w=sample.power_w if sample is not None else None,
        drained=known.drained,
        drain_reason=known.drain_reason,
        schedulable=why_not is None,
        why_not=why_not,
        queue=known.owner,
        job_id=known.job_id,
        attempt=known.attempt,
        jobs=[
            schema.GpuJob(
                id=lease.job_id, ref=lease.ref, attempt=lease.attempt, memory_bytes=lease.memory_bytes
            )
            for lease in known.leases
        ],
        memory_leased_bytes=sum(
            known.memory_bytes if lease.memory_bytes is None else lease.memory_bytes for lease in known.leases
        ),
        processes=[
            schema.GpuProcess(
                pid=process.pid,
                name=process.name,
                memory_bytes=process.memory_bytes,
                job_id=pids.get(process.pid),
            )
            for process in (sample.processes if sample is not None else [])
        ],
        sampled_at=instant(sample.sampled_at) if sample is not None else None,
    )


def bar(one: Lane) -> schema.Bar:
    """An attempt in the picture of who had which GPU."""
    return schema.Bar(
        job_id=one.job_id,
        ref=one.ref,
        name=one.name,
        user=one.user,
        attempt=one.number,
        state=one.state,
        class_=model.FailureClass(one.cause) if one.cause in set(model.FailureClass) else None,
        exit_code=one.exit_code,
        gpu_indices=[gpu.index for gpu in one.gpus],
        claimed_at=instant(one.claimed_at),
        ended_at=maybe_instant(one.ended_at),
    )


def minute(one: Bucket) -> schema.GpuMinute:
    """A minute of a device."""
    return schema.GpuMinute(
        at=instant(one.at),
        utilization=round(one.utilization, 3) if one.utilization is not None else None,
        memory_used_bytes=one.memory_used_bytes,
        power_w=round(one.power_w, 1) if one.power_w is not None else None,
        temperature_c=one.temperature_c,
    )


def gpu_use(
    attempt: int, gpu: model.LeasedGpu, use: SampledUse | None, minutes: Sequence[Bucket]
) -> schema.GpuUse:
    """Return the known use of a device by an attempt."""
    shown = schema.GpuUse(
        attempt=attempt, index=gpu.index, uuid=gpu.uuid, minutes=[minute(one) for one in minutes]
    )
    if use is not None:
        shown.sampled_s = use.sampled_ms / 1000
        shown.idle_s = use.idle_ms / 1000
        shown.first_use_at = maybe_instant(use.first_use_at)
        shown.max_utilization = use.max_utilization
        shown.max_memory_bytes = use.max_memory_bytes
        shown.energy_kwh = use.energy_mj / 3.6e9 if use.energy_mj is not None else None
        shown.energy_source = use.energy_source
    return shown


def event(one: events.Event, refs: Mapping[int, str]) -> schema.Event:
    """An event of the sequence. `refs`: what people call the members of arrays, by id."""
    return schema.Event(
        id=one.id,
        at=instant(one.at),
        type=one.type,
        job_id=one.job_id,
        attempt=one.attempt,
        data=one.data,
        ref=refs.get(one.job_id, str(one.job_id)) if one.job_id is not None else None,
    )


def why(
    one: model.Job,
    wait: Wait | None,
    dependencies: Sequence[Dependency],
    blockers: Sequence[str] = (),
    eta: Eta | None = None,
    turn: Turn | None = None,
) -> schema.Why:
    """Return the body that explains a job's state in one sentence. `blockers`: the names of those of
    `wait`. `turn`: the bound on how long others may start before it."""
    waits_for = [each.on_ref for each in dependencies if each.state != "met"]
    if wait is None:
        return schema.Why(id=one.id, state=one.state, reason=None, sentence=_not_waiting(one))
    unblock = {
        model.Reason.HELD: f"leptonctl release {one.ref}",
        model.Reason.BACKOFF: f"leptonctl retry {one.ref} starts it without waiting longer",
        model.Reason.DEPENDENCY_NEVER: f"leptonctl retry {', '.join(blockers)} brings it back;"
        f" leptonctl cancel {one.ref} removes it, leptonctl cancel --never all that can never run",
        model.Reason.DRAINING: "leptonctl undrain GPU",
        model.Reason.PRIORITY: f"leptonctl edit {one.ref} --priority N with a higher N",
        model.Reason.RESOURCES: "it starts by itself when enough GPUs or CPU slots are free",
        model.Reason.DEPENDENCY: "it starts by itself after the jobs that it waits for",
    }.get(wait.reason)
    return schema.Why(
        id=one.id,
        state=one.state,
        reason=wait.reason,
        sentence=f"{wait.reason}: {wait.sentence}",
        unblock=unblock,
        waits_for=waits_for or list(blockers),
        starts_at=instant(eta.likely.start_at) if eta is not None else None,
        earliest_at=maybe_instant(eta.earliest_at) if eta is not None else None,
        latest_at=maybe_instant(eta.latest_at) if eta is not None else None,
        bypass_until=instant(turn.at) if turn is not None else None,
        overdue_ahead=turn.ahead if turn is not None else None,
    )


def _not_waiting(one: model.Job) -> str:
    match one.state:
        case State.STARTING:
            return "it is starting now"
        case State.RUNNING:
            return f"it is running (attempt {one.attempt})"
        case State.STOPPING:
            return "it has been told to stop and is in its grace"
        case _:
            state = str(one.state).replace("_", " ")
            return f"it has ended ({state})" + (f": {one.explanation}" if one.explanation else "")

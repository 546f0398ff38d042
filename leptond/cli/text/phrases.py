"""Jobs and GPUs in a line of text: the same phrases in every command."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from leptond.core.jobs.states import LIVE, TERMINAL, State
from leptond.core.jobs.timespec import format_duration, format_size

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

Body = Mapping[str, "Any"]
"""A JSON object of the API."""

FIRST_SUBMIT = "leptonctl submit --gpus 1 --time 1h -- python train.py"


def state_filter(states: Container[str]) -> str:
    """The states as the API's filter takes them."""
    return ",".join(state for state in State if state in states)


def instant(text: str | None) -> datetime | None:
    """An RFC 3339 instant of the API."""
    if text is None:
        return None
    from datetime import datetime

    return datetime.fromisoformat(text)


def ago(text: str | None, *, table: bool) -> str:
    """The time since (or until) an instant, for people; else the instant as it is."""
    at = instant(text)
    if at is None or text is None:
        return ""
    if not table:
        return text
    seconds = (now() - at).total_seconds()
    return f"in {format_duration(-seconds)}" if seconds < -1 else f"{format_duration(seconds)} ago"


def now() -> datetime:
    """The current instant."""
    from datetime import UTC, datetime

    return datetime.now(UTC)


def by_date(text: str, *, table: bool) -> str:
    """An instant to the minute, with the time until then, for people; else the instant as it is."""
    at = instant(text)
    return text if at is None or not table else f"{at:%Y-%m-%d %H:%M} UTC ({ago(text, table=table)})"


def span(seconds: float | None, *, table: bool) -> str:
    """A duration: short for people, seconds to the millisecond for programs."""
    if seconds is None:
        return ""
    return format_duration(seconds) if table else f"{max(0.0, seconds):.3f}".removesuffix(".000")


def time_of(job: Body) -> float | None:
    """Seconds that the job ran, runs, or has waited."""
    if job["state"] == "pending":
        since = instant(job["submitted_at"])
    elif job.get("run_s") is not None:
        return float(job["run_s"])
    else:
        since = instant(job.get("started_at"))
    if since is None:
        return None
    end = instant(job.get("ended_at")) or now()
    return max(0.0, (end - since).total_seconds())


def gpus_of(job: Body, *, table: bool = False) -> str:
    """The GPUs that a job has, by index; before that, how many it wants. For people it is always how many,
    and then which: ``2 on 0,1``."""
    indices = job.get("gpu_indices") or []
    if table:
        return f"{job['gpus']} on {_spans(indices)}" if indices else str(job["gpus"])
    return ",".join(map(str, indices)) if indices else str(job["gpus"])


def is_array(job: Body) -> bool:
    """Return True if a job of a list stands for more members of its array than itself."""
    members: Mapping[str, int] = job.get("members") or {}
    return sum(members.values()) > 1


def members_of(job: Body) -> str:
    """How many members of an array have not ended: ``3 running, 497 pending``."""
    counts = job["members"]
    return ", ".join(f"{counts[state]:,} {state}" for state in State if counts.get(state))


def starts_of(job: Body, *, table: bool) -> str:
    """When a pending job is likely to start; for people also that this is unknown."""
    if job.get("starts_at") or not table or job["state"] != "pending":
        return ago(job.get("starts_at"), table=table)
    return "unknown" if job.get("reason") in ("Resources", "Priority") else ""


def _spans(indices: Sequence[int]) -> str:
    """Ascending numbers, three and more in a row as ``0-3``."""
    found: list[list[int]] = []
    for index in sorted(indices):
        if found and found[-1][-1] == index - 1:
            found[-1].append(index)
        else:
            found.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in found)


def reason_of(job: Body) -> str:
    """The reason why a job does not run, its progress while it runs, or how it ended."""
    if job["state"] in TERMINAL:
        return str(job.get("explanation") or "")
    if job["state"] in LIVE:
        return progress_of(job)
    reason, detail = job.get("reason"), job.get("reason_detail")
    if reason and detail and not str(detail).startswith(str(reason)):
        return f"{reason}: {detail}"
    return str(detail or reason or "")


def progress_of(job: Body) -> str:
    """A job's progress by its own reports: ``step 8200/20000, loss 1.83, ~1h44m left``."""
    progress = job.get("progress")
    if not progress:
        return ""
    parts = []
    if progress.get("step") is not None:
        total = progress.get("total")
        parts.append(f"step {progress['step']}" + (f"/{total}" if total is not None else ""))
    loss = progress["metrics"].get("loss", progress)  # a loss of null is a fact, a missing one is none
    if loss is not progress:
        parts.append("loss " + ("not finite" if loss is None else f"{loss:.4g}"))
    if progress.get("left_s") is not None and job["state"] in LIVE:
        parts.append(f"~{format_duration(progress['left_s'])} left")
    return ", ".join(parts)


def end_of(body: Body) -> str:
    """Exit code or signal of a job or an attempt that ended."""
    if body.get("signal"):
        return str(body["signal"])
    code = body.get("exit_code")
    return "" if code is None else str(code)


def gpu_hours(body: Body) -> float:
    """GPU-hours of a job or an attempt."""
    return round(float(body.get("gpu_seconds") or 0.0) / 3600, 2)


def signal_number(name: str) -> int | None:
    """The number of ``SIGKILL``, ``SIG34`` or ``9``."""
    digits = name.removeprefix("SIG")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 3:
        return int(digits)
    import signal

    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        return None


def exit_code_for(job: Body) -> int:
    """The exit code of `run` and `wait` for a job: its own code, 128+N after signal N, 124 for the time
    limit, 130 when it was cancelled, 0 when its sweep stopped it early, 1 for any other failure, and for a
    job that can never start."""
    state = job["state"]
    if state == "succeeded" or job.get("class") == "stopped-early":
        return 0
    if state == "timed_out":
        return 124
    if state == "cancelled":
        return 130
    if job.get("signal"):
        number = signal_number(str(job["signal"]))
        return 1 if number is None else 128 + number
    code = job.get("exit_code")
    return int(code) & 0xFF or 1 if code else 1


def never_starts(job: Body) -> bool:
    """Return True if the job waits for something that cannot happen any more."""
    return job["state"] == "pending" and job.get("reason") == "DependencyNeverSatisfied"


def verdict(job: Body) -> str:
    """One sentence about a job that has ended, or that never will start."""
    name = f"job {job['ref']} ({job['name']})"
    if never_starts(job):
        return f"{name} can never start: {reason_of(job)}. leptonctl cancel {job['ref']} removes it"
    explanation, state = job.get("explanation"), str(job["state"]).replace("_", " ")
    if explanation and str(explanation).startswith(f"{state} "):
        return f"{name} {explanation}"
    return f"{name} {state}" + (f": {explanation}" if explanation else "")


def memory_of(gpu: Body) -> str:
    """Used and total memory of a GPU."""
    total = format_size(gpu["memory_total_bytes"])
    used = gpu.get("memory_used_bytes")
    return total if used is None else f"{format_size(used)} / {total}"


def state_of_gpu(gpu: Body) -> str:
    """A word or a sentence on whether the GPU takes jobs."""
    if not gpu["present"]:
        return "missing"
    if gpu["drained"]:
        return f"drained: {gpu.get('drain_reason') or 'by hand'}"
    if not gpu["schedulable"]:
        return f"out of service: {gpu.get('why_not') or 'unhealthy'}"
    shares = [job["memory_bytes"] for job in gpu.get("jobs") or [] if job.get("memory_bytes") is not None]
    if shares:
        total = format_size(gpu["memory_total_bytes"])
        return f"shared by {len(shares)}: {format_size(sum(shares))} of {total}"
    return "busy" if gpu.get("job_id") is not None else "free"

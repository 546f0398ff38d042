"""`leptonctl show` and `leptonctl why`: one job."""

from __future__ import annotations

from collections.abc import Iterator

from leptond.cli.framework import refs
from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.output import Cell, Column, print_line, print_pairs, print_table
from leptond.cli.framework.params import JOB
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import echo
from leptond.cli.text import phrases
from leptond.cli.text.array_summary import summary
from leptond.core.jobs.field import Field, Group, Kind
from leptond.core.jobs.fields import FIELDS
from leptond.core.jobs.resubmit import quote
from leptond.core.jobs.states import LIVE, TERMINAL
from leptond.core.jobs.timespec import format_size

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

_ATTEMPT_COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("STATE"),
    Column("CLASS"),
    Column("EXIT", right=True),
    Column("GPUS"),
    Column("STARTED", drop=1),
    Column("TIME", right=True),
    Column("GPU-H", right=True, drop=2),
    Column("WHY", fold=True),
)


@command("show", short_help="Everything about one job.")
@argument("job", type=JOB)
@option("--script", is_flag=True, help="Print the script that it runs, as it was at the submit.")
def show_command(session: Session, job: str, script: bool) -> None:
    """Show everything about JOB: what it is, where it stands, its attempts and how each of them ended,
    and the command that submits it again. The number of an array sums up all of it."""
    ref, number = refs.one_or_array(session, job)
    if script:
        reply = session.api.request("GET", refs.job_path(ref, "script"))
        text = reply.body.decode("utf-8", "replace")
        if session.json:
            session.emit({"script": text})
        else:
            echo(text, end="")
        return
    found = session.api.get(refs.job_path(ref))
    if number is None and found.get("array_id") is not None and ref == str(found["array_id"]):
        _show_array(session, found)
        return
    if session.json:
        session.emit(found)
        return
    print_pairs(session, _pairs(found, table=session.table))
    attempts = [a for a in found.get("attempts") or [] if number is None or a["number"] == number]
    if attempts:
        echo()
        rows = (_attempt_row(attempt, table=session.table) for attempt in attempts)
        print_table(session, _ATTEMPT_COLUMNS, rows)
        for attempt in attempts:
            if attempt.get("evidence"):
                print_line(
                    session, f"  {attempt['number']}: {attempt['rule']}: {'; '.join(attempt['evidence'])}"
                )
            for note in attempt.get("notes") or []:
                print_line(session, f"  {attempt['number']}: {note['text']}")
    if any(attempt.get("gpus") for attempt in attempts):
        _print_use(session, session.api.get(refs.job_path(ref, "gpus")), {a["number"] for a in attempts})
    if found.get("resubmit"):  # a daemon of 0.4.0 sends none
        echo()
        # neither cut nor wrapped: it is there to be copied
        echo(found["resubmit"])


def _show_array(session: Session, member: phrases.Body) -> None:
    """Sum up an array; for programs its first member has it as `array`."""
    array = session.api.get(f"/v1/arrays/{member['array_id']}")
    if session.json:
        session.emit({**member, "array": array})
        return
    print_pairs(session, summary(array, member))


_USE_COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("GPU", right=True),
    Column("MAX LOAD", right=True),
    Column("MAX MEMORY", right=True),
    Column("IDLE", right=True),
    Column("ENERGY", right=True),
)


def _print_use(session: Session, uses: list[phrases.Body], numbers: set[int]) -> None:
    """Print how the attempts used their GPUs, as far as that has been sampled."""
    shown = [use for use in uses if use["attempt"] in numbers and use["sampled_s"]]
    if not shown:
        return
    echo()
    print_table(session, _USE_COLUMNS, (_use_row(use, table=session.table) for use in shown))


def _use_row(use: phrases.Body, *, table: bool) -> list[Cell]:
    load, memory, kwh = use["max_utilization"], use["max_memory_bytes"], use["energy_kwh"]
    return [
        use["attempt"],
        use["index"],
        None if load is None else f"{load:.0%}",
        None if memory is None else format_size(memory) if table else memory,
        phrases.span(use["idle_s"], table=table),
        None if kwh is None else f"{1000 * kwh:.1f} Wh",
    ]


def _pairs(job: phrases.Body, *, table: bool) -> list[tuple[str, Cell]]:
    spec = job["spec"]
    argv = spec["argv"]
    deadline = job.get("deadline_at") if job["state"] in LIVE else None
    depends = ", ".join(
        f"{d.get('on_ref', d['on_job_id'])} ({d['kind']}, {d['state']})"
        for d in job.get("dependencies") or []
    )
    ended = job["state"] in TERMINAL
    live = job["state"] in LIVE
    progress = job.get("progress") or {}
    devices = " (devices)" if job.get("gpu_indices") and not table else ""
    return [
        ("job", f"{job['ref']}" + (f" (id {job['id']})" if job["ref"] != str(job["id"]) else "")),
        ("name", job["name"]),
        ("user", job["user"]),
        *_fields(job, "about", table=table),
        ("state", job["state"]),
        ("explanation" if ended else "reason", phrases.reason_of(job) if not live else None),
        ("progress", phrases.progress_of(job)),
        ("metrics", _metrics(progress)),
        ("checkpoint", _checkpoint(progress, table=table)),
        ("knobs", _knobs(job)),
        ("class", job.get("class")),
        ("exit", phrases.end_of(job)),
        ("gpus", phrases.gpus_of(job, table=table) + devices),
        ("of each GPU", _kind(spec)),
        *_fields(job, "place", table=table),
        ("submitted", phrases.ago(job["submitted_at"], table=table)),
        ("eligible", phrases.ago(job.get("eligible_at"), table=table) if not job.get("started_at") else None),
        ("started", phrases.ago(job.get("started_at"), table=table)),
        ("ended", phrases.ago(job.get("ended_at"), table=table)),
        ("ran" if ended else "time", phrases.span(phrases.time_of(job), table=table)),
        *_fields(job, "time", table=table),
        ("deadline", _deadline(deadline, spec.get("grace_s"), table=table)),
        ("retries left", job.get("retries_left")),
        ("retry of", job.get("retry_of")),
        ("waits for", depends),
        ("GPU hours", phrases.gpu_hours(job) or None),
        ("start", _start(job)),
        ("peak memory", _peak(job)),
        ("command", argv[0] if spec.get("shell") else " ".join(map(quote, argv))),
        *_fields(job, "command", table=table),
        ("script", _script(job)),
        ("output", job.get("log_path")),
        ("checkpoints", job.get("checkpoint_dir")),
    ]


def _deadline(at: str | None, grace_s: float | None, *, table: bool) -> str:
    """When the time limit ends a job, and for people what happens then."""
    if at is None or not table:
        return phrases.ago(at, table=table)
    kill = f", and is killed {phrases.span(grace_s, table=True)} later" if grace_s else ""
    return f"{phrases.ago(at, table=True)}: then it gets SIGTERM{kill}, unless it has ended"


def _fields(job: phrases.Body, group: Group, *, table: bool) -> Iterator[tuple[str, Cell]]:
    """The fields of a group that have a label, as they are now."""
    for field in FIELDS:
        if field.label is not None and field.group == group:
            value = job.get(field.name) if field.shown else job["spec"].get(field.name)
            yield field.label, _cell(field, value, table=table)


def _cell(field: Field, value: Any, *, table: bool) -> Cell:
    match field.kind:
        case Kind.PAIRS | Kind.SCALARS:
            return " ".join(f"{name}={one}" for name, one in (value or {}).items())
        case Kind.LIMIT | Kind.SECONDS:
            return phrases.span(value, table=table)
        case Kind.SIZE if table and value is not None:
            return format_size(value)
        case _:
            shown: Cell = value
            return shown


def _script(job: phrases.Body) -> str | None:
    """The copy that runs in place of the file that the command names."""
    if not job.get("script_sha256"):
        return None
    return f"a copy, as it was at the submit (leptonctl show {job['ref']} --script prints it)"


def _start(job: phrases.Body) -> str | None:
    """The way in which the newest attempt's command started."""
    attempts = job.get("attempts") or []
    return attempts[-1].get("start") if attempts else None


def _peak(job: phrases.Body) -> str | None:
    """The most memory that an attempt has used."""
    peak = max((one.get("peak_mem_bytes") or 0 for one in job.get("attempts") or []), default=0)
    return format_size(peak) if peak else None


def _kind(spec: phrases.Body) -> str:
    """The job's demands on its GPUs, beside their number."""
    memory = spec.get("gpu_memory_bytes")
    said = [spec.get("gpu_type"), f"{format_size(memory)} of memory" if memory else None]
    if spec.get("exclusive"):
        said.append("for itself")
    return ", ".join(one for one in said if one)


def _metrics(progress: phrases.Body) -> str:
    values = progress.get("metrics") or {}
    return ", ".join(
        f"{name} {'not finite' if value is None else f'{value:.4g}'}" for name, value in values.items()
    )


def _checkpoint(progress: phrases.Body, *, table: bool) -> str | None:
    if progress.get("checkpoint_step") is None:
        return None
    at = phrases.ago(progress.get("checkpoint_at"), table=table)
    return f"step {progress['checkpoint_step']}, {at}"


def _knobs(job: phrases.Body) -> str:
    """The knobs, as ``lr=0.001 (0 to 1)``; with those that were asked for and never declared."""
    knobs = (job.get("progress") or {}).get("knobs") or {}
    reported = [f"{name}={one['value']:g} ({one['low']:g} to {one['high']:g})" for name, one in knobs.items()]
    asked = [
        f"{name}={value:g} (asked for)"
        for name, value in (job.get("tuned") or {}).items()
        if name not in knobs or knobs[name]["value"] != value
    ]
    return ", ".join(reported + asked)


def _attempt_row(attempt: phrases.Body, *, table: bool) -> list[Cell]:
    why = [attempt.get("explanation"), attempt.get("retry")]
    if attempt.get("log_dropped_bytes"):
        why.append(f"{format_size(attempt['log_dropped_bytes'])} of output not kept")
    return [
        attempt["number"],
        attempt["state"],
        attempt.get("class"),
        phrases.end_of(attempt),
        ",".join(str(gpu["index"]) for gpu in attempt.get("gpus") or []),
        phrases.ago(attempt.get("started_at"), table=table),
        phrases.span(attempt.get("run_s"), table=table),
        phrases.gpu_hours(attempt),
        "; ".join(str(part) for part in why if part),
    ]


@command("why", short_help="Why a job waits, or how it ended.")
@argument("job", type=JOB)
def why_command(session: Session, job: str) -> None:
    """Explain in a sentence why JOB waits, or how it ended, and what would change that."""
    found = session.api.get(refs.job_path(refs.one(session, job), "why"))
    if session.json:
        session.emit(found)
        return
    print_line(session, found["sentence"])
    if found.get("unblock"):
        print_line(session, found["unblock"])
    if found.get("starts_at"):
        early, late = found.get("earliest_at"), found.get("latest_at")
        table = session.table
        between = (
            f", between {phrases.ago(early, table=table)} and {phrases.ago(late, table=table)}"
            if late and late != early
            else ""
        )
        print_line(session, f"starts: {phrases.ago(found['starts_at'], table=table)}{between}")
    elif found.get("starts_unknown"):
        print_line(session, f"starts: unknown: {found['starts_unknown']}")
    if found.get("bypass_until"):
        print_line(session, _bypass(found, table=session.table))
    if found.get("waits_for"):
        print_line(session, f"waits for: {', '.join(found['waits_for'])}")


def _bypass(found: phrases.Body, *, table: bool) -> str:
    """Say until when other jobs may start before this one."""
    until, ahead = phrases.by_date(found["bypass_until"], table=table), found.get("overdue_ahead") or 0
    if not ahead:
        return f"others may start before it until {until} at the latest; from then on GPUs are kept for it"
    older = "one older job" if ahead == 1 else f"{ahead} older jobs"
    return f"others may start before it until {until} at the latest; from then on it comes next after {older}"

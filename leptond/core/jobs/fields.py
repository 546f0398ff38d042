"""The table of a job's fields, a row each: where a field is asked for, stored, changed, shown and searched.

The column lists of the store, the options of leptonctl, the resubmit line, the copies of a retry, patches,
filters, exports and the lists of the page are made from these rows; the declared structs (JobSpec, Job and
the API's) are checked against them by a test. A new field is a migration, a row here, its type in those
structs, and a run of :mod:`leptond.docs_build.reference`.
"""

from __future__ import annotations

from leptond.core.jobs.field import OWN, Field, Input, Kind, Option

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any


def _stored(name: str, kind: Kind = Kind.TEXT, **more: Any) -> Field:
    """A column that no spec asks for."""
    return Field(name, kind, asked=False, column=True, **more)


FIELDS: tuple[Field, ...] = (
    _stored("user", shown=True, filter="Only this user's.", exported=True, summary=True, announced=True),
    _stored("uid", Kind.COUNT),
    # -- what a spec asks for, in the order of the options ---------------------------------------------
    Field("argv", Kind.TEXTS),
    Field(
        "gpus",
        Kind.COUNT,
        default=0,
        column=True,
        editable="pending",
        launch=True,
        shown=True,
        exported=True,
        summary=True,
        announced=True,
        option=Option(
            ("-g", "--gpus"),
            "How many whole GPUs [0, or jobs.gpus].",
            metavar="N",
            edit="How many GPUs (while it waits).",
            retry="On another number of GPUs.",
        ),
        input=Input("GPUs", "0, unless jobs.gpus says more"),
    ),
    Field(
        "gpu_type",
        column=True,
        option=Option(("--gpu-type",), "Of this type: h100, a100-80gb; commas for any of.", metavar="NAME"),
    ),
    Field(
        "gpu_memory_bytes",
        Kind.SIZE,
        column=True,
        launch=True,
        option=Option(("--gpu-mem",), "A share of a GPU: so much memory of each, as 20G."),
    ),
    Field(
        "preemptible",
        Kind.FLAG,
        default=False,
        column=True,
        option=Option(("--preemptible",), "It saves on SIGTERM and resumes: it may make room."),
        input=Input("may be preempted (it checkpoints on SIGTERM and resumes)"),
    ),
    Field(
        "urgent",
        Kind.FLAG,
        default=False,
        column=True,
        option=Option(("--urgent",), "Before every other job; needs the right."),
    ),
    Field(
        "exclusive",
        Kind.FLAG,
        default=False,
        column=True,
        launch=True,
        option=Option(("--exclusive",), "No other job on its GPUs, whatever --gpu-mem says."),
    ),
    Field(
        "mem_bytes",
        Kind.SIZE,
        nullable=True,
        column=True,
        editable="pending",
        launch=True,
        shown=True,
        label="memory",
        group="place",
        exported=True,
        option=Option(
            ("--mem",),
            "The machine's memory that it may use, as 64G: it is ended above that.",
            edit="The machine's memory that it may use (while it waits).",
            retry="With another limit of memory.",
            sbatch="mem",
        ),
        input=Input("Memory", "64G"),
    ),
    Field(
        "cpus",
        Kind.COUNT,
        nullable=True,
        column=True,
        editable="pending",
        launch=True,
        shown=True,
        label="CPUs",
        group="place",
        exported=True,
        option=Option(
            ("-c", "--cpus-per-task", "--cpus"),
            "Its share of the CPUs where all are busy, as so many of them.",
            metavar="N",
            edit="Its share of the CPUs (while it waits).",
            retry="With another share of the CPUs.",
            sbatch="cpus-per-task",
        ),
        input=Input("CPUs"),
    ),
    Field(
        "cuda_devices",
        column=True,
        launch=True,
        shown=True,
        option=Option(
            ("--cuda-devices",),
            "How CUDA_VISIBLE_DEVICES names its GPUs: uuid, or index for programs that want numbers.",
            metavar="FORM",
            choices=("uuid", "index"),
        ),
    ),
    Field(
        "queue",
        column=True,
        fallback="default",
        editable="pending",
        launch=True,
        shown=True,
        label="queue",
        group="place",
        announced=True,
        option=Option(
            ("-Q", "--queue"),
            "The queue that it waits in [default].",
            metavar="NAME",
            edit="The queue that it waits in (while it waits).",
            retry="In another queue.",
            sbatch="partition",
        ),
    ),
    Field(
        "time_limit_s",
        Kind.LIMIT,
        nullable=True,
        column=True,
        editable="pending",
        launch=True,
        shown=True,
        label="limit",
        group="time",
        exported=True,
        option=Option(
            ("-t", "--time"),
            "Time limit: 90m, 2h, 1-12:00:00; 45 is minutes. Then it gets SIGTERM, and has its grace to end.",
            edit="Time limit (while it waits).",
            retry="With another time limit.",
            sbatch="time",
        ),
        input=Input("Time limit", "2h"),
    ),
    Field(
        "priority",
        Kind.COUNT,
        default=0,
        column=True,
        editable="unfinished",
        launch=True,
        shown=True,
        label="priority",
        group="place",
        exported=True,
        summary=True,
        announced=True,
        option=Option(
            ("-p", "--priority"),
            "Higher runs first, -1000 to 1000 [0].",
            metavar="N",
            edit="Higher runs first.",
            retry="With another priority.",
            sbatch="priority",
        ),
        input=Input("Priority", initial="0"),
    ),
    Field(
        "name",
        column=True,
        editable="unfinished",
        launch=True,
        shown=True,
        filter="Only those of this name.",
        exported=True,
        summary=True,
        announced=True,
        option=Option(
            ("-n", "--name"),
            "Its name [the script's or program's].",
            edit="Its name.",
            sbatch="job-name",
            place="first",
        ),
        input=Input("Name", "made from the command"),
    ),
    Field(
        "cwd",
        Kind.PATH,
        label="directory",
        group="command",
        option=Option(
            ("-C", "--chdir"), "Where it runs [here].", metavar="DIR", sbatch="chdir", place="last"
        ),
    ),
    Field(
        "env",
        Kind.VARIABLES,
        default={},
        option=Option(
            ("-e", "--env"), "Set a variable, or copy it from here.", metavar="K=V|K", place="last"
        ),
    ),
    Field(
        "after",
        Kind.JOBS,
        default=[],
        copied=False,
        option=Option(("-d", "--after"), "After these have succeeded.", metavar="JOBS", sbatch="dependency"),
        input=Input("After jobs", "12, 13"),
    ),
    Field(
        "after_any",
        Kind.JOBS,
        default=[],
        copied=False,
        option=Option(("--after-any",), "After these have ended.", metavar="JOBS"),
    ),
    Field(
        "after_fail",
        Kind.JOBS,
        default=[],
        copied=False,
        option=Option(("--after-fail",), "After these have failed.", metavar="JOBS"),
    ),
    Field(
        "array",
        copied=False,
        option=Option(
            ("--array",),
            "Many jobs: 0-9, 1,3,5-7, 0-15:5; %4 runs at most 4 at a time.",
            metavar="SPEC",
            sbatch="array",
        ),
        input=Input("Array", "0-9%4"),
    ),
    Field(
        "retries",
        Kind.COUNT,
        column=True,
        fallback=0,
        editable="pending",
        launch=True,
        option=Option(
            ("--retries",),
            "Retries after a failure of the job's own.",
            metavar="N",
            edit="How many retries (while it waits).",
            retry="With so many retries.",
        ),
        input=Input("Retries", initial="0"),
    ),
    Field(
        "retry_delay_s",
        Kind.SECONDS,
        option=Option(("--retry-delay",), "Wait before the first; doubles each time."),
    ),
    Field("retry_max_delay_s", Kind.SECONDS, option=Option(("--retry-max-delay",), "Longest such wait.")),
    Field(
        "retry_on",
        Kind.TEXTS,
        default=[],
        option=Option(("--retry-on",), "Also retry: exit codes, SIGNALS, classes.", metavar="CODES"),
    ),
    Field(
        "no_retry_on",
        Kind.TEXTS,
        default=[],
        option=Option(("--no-retry-on",), "Never retry these.", metavar="CODES"),
    ),
    Field(
        "cold",
        Kind.FLAG,
        default=False,
        option=Option(("--cold",), "Start with an interpreter of its own, never from a warm process."),
    ),
    Field(
        "fail_fast",
        Kind.SWITCH,
        option=Option(("--fail-fast/--no-fail-fast",), "Whether the same error twice ends the retries."),
    ),
    Field(
        "requeue",
        Kind.OFF,
        default=True,
        option=Option(
            ("--no-requeue",), "Do not run it again after a crash of the machine.", sbatch="no-requeue"
        ),
    ),
    Field(
        "grace_s",
        Kind.SECONDS,
        option=Option(("--grace",), "Between the stop signal (also that of the time limit) and the kill."),
    ),
    Field(
        "warn_signal",
        Kind.SIGNAL,
        option=Option(
            ("--signal",),
            "A signal before the time limit, as USR1@120 (seconds); B:USR1@120 for the script alone.",
        ),
    ),
    Field(
        "no_progress_s",
        Kind.SECONDS,
        option=Option(("--no-progress",), "Stop it as hung when it reports no new step for so long."),
    ),
    Field(
        "begin_at",
        Kind.INSTANT,
        nullable=True,
        column=True,
        editable="pending",
        copied=False,
        option=Option(
            ("--begin",),
            "Not before: now+2h, 18:00, 2026-12-24T18:00.",
            edit="Not before (while it waits).",
            sbatch="begin",
        ),
    ),
    Field(
        "hold",
        Kind.FLAG,
        default=False,
        copied=False,
        option=Option(("--hold",), "Wait until it is released.", sbatch="hold"),
        input=Input("hold it"),
    ),
    Field(
        "project",
        nullable=True,
        column=True,
        editable="unfinished",
        shown=True,
        label="project",
        filter="Only this project's.",
        exported=True,
        summary=True,
        option=Option(
            ("--project",),
            "What its time is booked on.",
            edit="What its time is booked on; empty for nothing.",
            sbatch="account",
        ),
        input=Input("Project"),
    ),
    Field(
        "contact",
        nullable=True,
        column=True,
        editable="pending",
        shown=True,
        label="contact",
        filter="Only those with this contact.",
        longest=256,
        exported=True,
        summary=True,
        option=Option(
            ("--contact",),
            "Whom to tell about it: an address, a channel; webhooks carry it.",
            edit="Whom to tell about it (while it waits); empty for nobody.",
            sbatch="mail-user",
        ),
        input=Input("Contact"),
    ),
    Field(
        "params",
        Kind.SCALARS,
        default={},
        label="parameters",
        option=Option(("--param",), "A parameter for leptond.job.params, as often.", metavar="K=V"),
    ),
    Field(
        "labels",
        Kind.PAIRS,
        default={},
        column=True,
        editable="unfinished",
        launch=True,
        shown=True,
        label="labels",
        exported=True,
        option=Option(
            ("--label",),
            "A label, as often as you like.",
            metavar="K=V",
            edit="Add or change a label; K= removes it.",
        ),
    ),
    Field("log_max_bytes", Kind.SIZE, option=Option(("--log-max",), "Most output to keep, as 256M.")),
    Field(
        "output",
        Kind.PATH,
        option=Option(
            ("-o", "--output"), "Its output also there; %j job, %A_%a array, %x name.", metavar="PATH"
        ),
    ),
    Field(
        "open_mode",
        option=Option(
            ("--open-mode",),
            "A file at --output: append to it [default] or truncate it.",
            metavar="MODE",
            sbatch="open-mode",
        ),
    ),
    Field(
        "track",
        Kind.TEXTS,
        default=[],
        option=Option(("--track",), "One run over all attempts: wandb, tensorboard.", metavar="NAMES"),
    ),
    Field(
        "shell",
        Kind.FLAG,
        default=False,
        option=Option(("--shell",), "The command is one string for /bin/sh -c.", place="last"),
    ),
    Field("script", copied=False),
    Field("rungs", Kind.JSON),
    # -- what the store keeps of its own ---------------------------------------------------------------
    _stored("id", Kind.COUNT, member=OWN, launch=True, shown=True, exported=True, summary=True),
    _stored("spec", Kind.JSON, launch=True),
    _stored("state", shown=True, exported=True, summary=True),
    _stored("held", Kind.FLAG, shown=True),
    _stored("hold_reason"),
    _stored("array_id", Kind.COUNT, shown=True),
    _stored("array_index", Kind.COUNT, member=OWN, shown=True),
    _stored("array_limit", Kind.COUNT),
    _stored("retry_of", Kind.COUNT, member=None, shown=True),
    _stored("root_id", Kind.COUNT, member=None),
    _stored("deps_waiting", Kind.COUNT),
    _stored("deps_failed", Kind.COUNT),
    _stored("never_cause", Kind.COUNT),
    _stored("submitted_at", Kind.INSTANT, exported=True, summary=True),
    _stored("started_at", Kind.INSTANT, member=None, exported=True, summary=True),
    _stored("ended_at", Kind.INSTANT, exported=True, summary=True),
    _stored("deadline_at", Kind.INSTANT, member=None),
    _stored("backoff_at", Kind.INSTANT, member=None),
    _stored("backoff_boot", Kind.REAL, member=None),
    _stored("attempt", Kind.COUNT, member=0, launch=True, shown=True, summary=True),
    _stored("spent_user", Kind.COUNT, member=0),
    _stored("spent_infra", Kind.COUNT, member=0),
    _stored("spent_snooze", Kind.COUNT, member=0),
    _stored("spent_requeue", Kind.COUNT, member=0),
    _stored("spent_preempt", Kind.COUNT, member=0),
    _stored("exit_code", Kind.COUNT, member=None, shown=True, exported=True, summary=True),
    _stored("signal", Kind.COUNT, member=None, exported=True, summary=True),
    _stored("class", exported=True, summary=True),
    _stored("explanation", shown=True, exported=True, summary=True),
    _stored("gpu_ms", Kind.COUNT, member=0),
    _stored("signature"),
    _stored("predicted_s", Kind.REAL),
    _stored("version", Kind.COUNT, shown=True),
    _stored("script_sha256", shown=True),
    _stored("sources"),
    _stored("tuned", Kind.JSON, member="{}"),
    _stored("tuned_version", Kind.COUNT, member=0, launch=True),
    _stored("order_at", Kind.ORDER_KEY),
    _stored("lane", Kind.ORDER_KEY),
    _stored("due_at", Kind.ORDER_KEY),
    _stored("alone_at", Kind.ORDER_KEY),
    _stored("short_s", Kind.ORDER_KEY),
)
"""Every field of a spec and every column of ``jobs``."""

BY_NAME = {field.name: field for field in FIELDS}

OPTIONS = tuple((field, field.option) for field in FIELDS if field.option is not None)
"""The fields that have an option of leptonctl, with it."""

FILTERS = tuple(field for field in FIELDS if field.filter is not None)
"""The fields that lists of jobs can be narrowed by."""


def names(**wanted: Any) -> tuple[str, ...]:
    """The names of the rows that have these values, in the order of the table.

    >>> names(filter="Only this project's.")
    ('project',)
    """
    return tuple(
        field.name for field in FIELDS if all(getattr(field, of) == value for of, value in wanted.items())
    )

"""`leptonctl submit`, and the options that describe a job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

from leptond.base.usage import UsageError
from leptond.cli.commands.job_fields import asked_value, submit_option
from leptond.cli.framework import refs
from leptond.cli.framework.declare import F, argument, command, option
from leptond.cli.framework.params import commas
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.client import job_spec as spec
from leptond.client.errors import ApiError
from leptond.core.jobs.fields import OPTIONS

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def with_directives(given: Mapping[str, Any]) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines of the script that `given` (raw values by name)
    names as its first word. They come before those of the command line, which therefore win. Raises
    UsageError."""
    script = _script_of(given)
    return [] if script is None else spec.directives(script, ignore=_ignored(given))


def _script_of(given: Mapping[str, Any]) -> Path | None:
    """The file that is given as the command itself, if there is one."""
    words, cwd = given.get("argv"), given.get("cwd")
    if not words or given.get("shell") or given.get("no_directives"):
        return None
    script = os.path.join(cwd if isinstance(cwd, str) else ".", str(words[0]))  # noqa: PTH118
    if not os.path.isfile(script):  # noqa: PTH113  # also from where one may not look
        return None
    from pathlib import Path  # which takes longer to import than most commands to answer

    return Path(script)


def _output_path(cwd: str, output: str) -> str:
    return os.path.normpath(os.path.join(cwd, output))  # noqa: PTH118  # pathlib costs milliseconds


def _ignored(given: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(commas(tuple(given.get("ignore_sbatch") or ())))


_BESIDE: Mapping[str, Callable[[Any], Any]] = {
    "env": option(
        "--export", metavar="ALL|NONE|NAMES", help="Which variables to copy from here (see below)."
    ),
    "warn_signal": option(
        "--nproc", metavar="auto|N", help="Run a Python script as N ranks under torchrun; auto: one a GPU."
    ),
    "shell": option(
        "--ignore-sbatch",
        multiple=True,
        metavar="NAMES",
        help="Leave these #SBATCH options of a script out; all: whatever cannot be honoured.",
    ),
    "track": option("--no-directives", is_flag=True, help="Take no options from the lines of a script."),
}
"""Options that are no field of a job, by the field whose option they come after."""


def job_options(function: F) -> F:
    """Add the options that describe a job, and its command."""
    function = argument("argv", nargs=-1, required=True, metavar="COMMAND...")(function)
    for field, _ in reversed(OPTIONS):
        if field.name in _BESIDE:
            function = _BESIDE[field.name](function)
        function = submit_option(field)(function)
    return function


MORE_HELP = """
    The job does not inherit this shell's environment. PATH, VIRTUAL_ENV, CONDA_PREFIX and
    CONDA_DEFAULT_ENV are copied, and a program found on PATH is submitted by its full path, so that
    `python` is the one of the environment that is active here. --export A,B copies further variables,
    --export ALL everything, --export NONE nothing; -e sets single ones.

    JOBS are job numbers (that of an array means all of it), 47_3 for a member, names, or @last, with
    commas between them.
"""


def job_spec(session: Session, given: dict[str, Any]) -> dict[str, Any]:
    """The body of a submit from the values of the options. Raises ClientError, UsageError."""
    words = [str(word) for word in given["argv"]]
    script = _script_of(given)
    for remark in [] if script is None else spec.remarks(script, ignore=_ignored(given)):
        session.warn(remark)
    if given["shell"] and given["nproc"] is not None:
        raise UsageError("--nproc starts a Python script, and --shell a command line; say one of them")
    if given["shell"] and len(words) != 1:
        raise UsageError("--shell takes one string; put the whole command line in quotes")
    asked = {
        "argv": words,
        "shell": given["shell"],
        "cwd": given["cwd"],
        "env": spec.build_env(os.environ, "NONE", given["env"]),
        "name": given["name"],
    }
    place, notes = spec.complete(asked, os.environ, export=given["export"])
    for note in notes:
        session.warn(note)
    if given["nproc"] is not None:
        place |= _as_ranks(place, given)
    wants_gpu = given["gpu_type"] or given["gpu_memory_bytes"] or given["exclusive"]
    body = {field.name: asked_value(field, given[field.name]) for field, _ in OPTIONS} | {
        **{name: place.get(name) or None for name in ("argv", "cwd", "env", "name", "script")},
        # a kind of GPU implies one; what is not said is the daemon's to decide
        "gpus": given["gpus"] or 1 if wants_gpu else given["gpus"],
        "output": _output_path(place["cwd"], given["output"]) if given["output"] else None,
        **_dependencies(session, given),
    }
    return {field: value for field, value in body.items() if value is not None}


def _as_ranks(place: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The command under torchrun, and the name of what it starts. Raises UsageError."""
    from leptond.client import torchrun

    words, name = place["argv"], place.get("name")
    if name is None and words[1:2] == ["-m"]:
        name = spec.name_of(words[2]) if len(words) > 2 else None
    ranks = torchrun.count(given["nproc"], given["gpus"] or 0)
    return {"argv": torchrun.under_torchrun(words, ranks), "name": name}


_SLURM_KINDS = {"afterok": "after", "afterany": "after_any", "afternotok": "after_fail"}


def _dependencies(session: Session, given: dict[str, Any]) -> dict[str, list[str] | None]:
    """The jobs to wait for, by field; None for no job. ``-d`` also reads sbatch's ``afterok:12:13``."""
    found: dict[str, list[str]] = {field: [] for field in _SLURM_KINDS.values()}
    for field in found:
        for text in commas(given[field]):
            slurm, colon, rest = text.partition(":")
            if field == "after" and colon:
                if slurm not in _SLURM_KINDS:
                    raise UsageError(f"{slurm!r} is not afterok, afterany or afternotok", option="--after")
                for part in rest.split(":"):
                    found[_SLURM_KINDS[slurm]] += refs.awaited(session, part)
            else:
                found[field] += refs.awaited(session, text)
    return {field: jobs or None for field, jobs in found.items()}


def send(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """Submit; safe to repeat when the connection breaks, for it carries an idempotency key."""
    if "array" in body:
        from leptond.cli.framework.progress import Bar

        with Bar(session, f"submitting {body['array']}"):
            answer = post(session, "/v1/jobs", body)
    else:
        answer = post(session, "/v1/jobs", body)
    for warning in answer.get("warnings") or []:
        session.warn(str(warning))
    return answer


@contextlib.contextmanager
def partition_hint(given: Mapping[str, Any]) -> Iterator[None]:
    """Let a refusal of the queue that an #SBATCH line of the script names say how to do without it."""
    try:
        yield
    except ApiError as refusal:
        script = _script_of(given)
        pointers = {fault.get("pointer") for fault in refusal.problem.get("errors") or []}
        if script is None or "/queue" not in pointers:
            raise
        if spec.partition(script, ignore=_ignored(given)) != given.get("queue"):
            raise
        hint = (
            "--ignore-sbatch partition leaves the script's #SBATCH --partition out, --queue names another; "
            "leptonctl queues lists them"
        )
        raise ApiError({**refusal.problem, "hint": hint}) from refusal


def post(session: Session, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a spec, or (in ``job``) what holds one. A daemon of 0.4.0 keeps no scripts: it gets the same
    without, and the user is told. Raises ClientError."""
    answer: dict[str, Any]
    key = None if path.endswith("/estimate") else os.urandom(16).hex()
    try:
        answer = session.api.post(path, body, key=key)
    except ApiError as refusal:
        inner = body.get("job", body)
        if (
            refusal.status != 422
            or "script" not in inner
            or "unknown field `script`" not in str(refusal.problem)
        ):
            raise
        session.warn("this daemon is older and keeps no copy: the script runs as it is when the job starts")
        plain = spec.without_script(inner)
        answer = session.api.post(path, {**body, "job": plain} if "job" in body else plain, key=key)
    return answer


@command("submit", interspersed=False, expand=with_directives, help=f"""
    Queue a command or a script.

    Everything from COMMAND on belongs to the job: leptonctl submit -g 1 -t 2h -- python train.py --lr 3.
    A script may hold options in lines such as #LEPTON --gpus 2 --time 4h before its first command; the
    command line wins. Of #SBATCH lines what one machine can honour is taken over, and anything else is
    refused by name.

    A shell script that is given itself (leptonctl submit job.sh) is copied now, as sbatch does, and the
    copy runs, for all members of an array and all attempts; show --script prints it. Any other command, also
    sh job.sh, runs the files that are there when it starts: show says which were changed after the submit.
{MORE_HELP}""", short_help="Queue a command or a script.")  # fmt: skip
@job_options
@option("-q", "--parsable", is_flag=True, help="Print the id alone.")
@option("--dry-run", is_flag=True, help="Say when it would start; queue nothing.")
@option("--wait", "wait_for_it", is_flag=True, help="Wait for its end, and leave with its exit code.")
def submit_command(session: Session, parsable: bool, dry_run: bool, wait_for_it: bool, **given: Any) -> None:
    with partition_hint(given):
        if dry_run:
            _estimate(session, job_spec(session, given))
            return
        answer = send(session, job_spec(session, given))
    number = answer["array_id"] if answer.get("array_id") is not None else answer["id"]
    try:
        _print_number(session, answer, number, parsable=parsable)
    except OSError:
        session.warn(f"job {number} is queued, and that could not be written to standard output")
        raise
    if wait_for_it:
        from leptond.cli.commands.wait import wait_for_all

        jobs = wait_for_all(session, [str(job_id) for job_id in answer["ids"]])
        leave(next((code for code in map(_exit_code, jobs) if code), 0))


def _print_number(session: Session, answer: dict[str, Any], number: int, *, parsable: bool) -> None:
    if session.json:
        session.emit(answer)
    elif parsable:
        echo(number)
    elif answer.get("array_id") is not None:
        echo(f"Submitted array {number} ({len(answer['ids'])} jobs)")
    else:
        echo(f"Submitted job {number}")


def _estimate(session: Session, body: dict[str, Any]) -> None:
    """Say when the job would start."""
    from leptond.cli.text import phrases

    found = post(session, "/v1/queue/estimate", body)
    if session.json:
        session.emit(found)
        return
    for warning in found.get("warnings") or []:
        session.warn(str(warning))
    echo(found["sentence"])
    if found.get("starts_at"):
        gpus = ",".join(str(index) for index in found["gpu_indices"])
        echo(
            f"starts: {phrases.ago(found['starts_at'], table=session.table)}"
            + (f" on GPU {gpus}" if gpus else "")
        )
        for name in ("earliest", "latest"):
            if found.get(f"{name}_at"):
                echo(f"{name}: {phrases.ago(found[f'{name}_at'], table=session.table)}")


def _exit_code(job: dict[str, Any]) -> int:
    from leptond.cli.text.phrases import exit_code_for

    return exit_code_for(job)

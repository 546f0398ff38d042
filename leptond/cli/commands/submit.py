"""`leptonctl submit`, and the options that describe a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptond.base.usage import UsageError
from leptond.cli.commands.job_fields import asked_value, submit_option
from leptond.cli.framework import refs
from leptond.cli.framework.declare import F, argument, command, option
from leptond.cli.framework.params import commas
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.client import job_spec as spec
from leptond.core.jobs.fields import OPTIONS


def with_directives(given: Mapping[str, Any]) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines of the script that `given` (raw values by name)
    names as its first word. They come before those of the command line, which therefore win. Raises
    UsageError."""
    words, cwd = given.get("argv"), given.get("cwd")
    if not words or given.get("shell"):
        return []
    script = Path(cwd if isinstance(cwd, str) else ".") / str(words[0])
    if not script.is_file():
        return []
    return spec.directives(script, ignore=frozenset(commas(tuple(given.get("ignore_sbatch") or ()))))


_BESIDE: Mapping[str, Callable[[Any], Any]] = {
    "env": option(
        "--export", metavar="ALL|NONE|NAMES", help="Which variables to copy from here (see below)."
    ),
    "warn_signal": option(
        "--nproc", metavar="auto|N", help="Run a Python script as N ranks under torchrun; auto: one a GPU."
    ),
    "shell": option(
        "--ignore-sbatch", multiple=True, metavar="NAMES", help="Leave these #SBATCH options of a script out."
    ),
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
    cwd = Path(os.path.abspath(given["cwd"] or "."))  # noqa: PTH100  # links stay as the user sees them
    env = spec.build_env(os.environ, given["export"], given["env"])
    name = given["name"]
    if given["shell"] and given["nproc"] is not None:
        raise UsageError("--nproc starts a Python script, and --shell a command line; say one of them")
    if given["shell"]:
        if len(words) != 1:
            raise UsageError("--shell takes one string; put the whole command line in quotes")
    else:
        path = env.get("PATH") or os.environ.get("PATH", os.defpath)
        words, script_name = spec.resolve_command(words, cwd=cwd, path=path)
        name = name or script_name
        if given["nproc"] is not None:
            from leptond.client import torchrun

            if name is None and words[1:2] == ["-m"]:
                name = spec.name_of(words[2]) if len(words) > 2 else None
            words = torchrun.under_torchrun(words, torchrun.count(given["nproc"], given["gpus"] or 0))
        if "/" not in words[0]:
            session.warn(f"{words[0]!r} is not on the PATH here; the job will look for it when it starts")
    for word in (*words, str(cwd), *env.values()):
        if not spec.is_text(word):
            raise UsageError(f"{word!r} is not UTF-8; arguments, paths and variables must be")
    wants_gpu = given["gpu_type"] or given["gpu_memory_bytes"] or given["exclusive"]
    body = {field.name: asked_value(field, given[field.name]) for field, _ in OPTIONS} | {
        "argv": words,
        "cwd": str(cwd),
        "env": env or None,
        "name": name,
        # a kind of GPU implies one; what is not said is the daemon's to decide
        "gpus": given["gpus"] or 1 if wants_gpu else given["gpus"],
        "output": os.path.normpath(cwd / given["output"]) if given["output"] else None,
        **_dependencies(session, given),
    }
    return {field: value for field, value in body.items() if value is not None}


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
                found[_SLURM_KINDS[slurm]].extend(refs.dependency(session, part) for part in rest.split(":"))
            else:
                found[field].append(refs.dependency(session, text))
    return {field: jobs or None for field, jobs in found.items()}


def send(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """Submit; safe to repeat when the connection breaks, for it carries an idempotency key."""
    key = os.urandom(16).hex()
    answer: dict[str, Any]
    if "array" in body:
        from leptond.cli.framework.progress import Bar

        with Bar(session, f"submitting {body['array']}"):
            answer = session.api.post("/v1/jobs", body, key=key)
    else:
        answer = session.api.post("/v1/jobs", body, key=key)
    for warning in answer.get("warnings") or []:
        session.warn(str(warning))
    return answer


@command("submit", interspersed=False, expand=with_directives, help=f"""
    Queue a command or a script.

    Everything from COMMAND on belongs to the job: leptonctl submit -g 1 -t 2h -- python train.py --lr 3.
    A script may hold options in lines such as #LEPTON --gpus 2 --time 4h before its first command; the
    command line wins. Of #SBATCH lines what one machine can honour is taken over, and anything else is
    refused by name. The script itself is read when the job starts.
{MORE_HELP}""", short_help="Queue a command or a script.")  # fmt: skip
@job_options
@option("-q", "--parsable", is_flag=True, help="Print the id alone.")
@option("--dry-run", is_flag=True, help="Say when it would start; queue nothing.")
@option("--wait", "wait_for_it", is_flag=True, help="Wait for its end, and leave with its exit code.")
def submit_command(session: Session, parsable: bool, dry_run: bool, wait_for_it: bool, **given: Any) -> None:
    if dry_run:
        _estimate(session, job_spec(session, given))
        return
    answer = send(session, job_spec(session, given))
    number = answer["array_id"] if answer.get("array_id") is not None else answer["id"]
    if session.json:
        session.emit(answer)
    elif parsable:
        echo(number)
    elif answer.get("array_id") is not None:
        echo(f"Submitted array {number} ({len(answer['ids'])} jobs)")
    else:
        echo(f"Submitted job {number}")
    if wait_for_it:
        from leptond.cli.commands.wait import wait_for_all

        jobs = wait_for_all(session, [str(job_id) for job_id in answer["ids"]])
        leave(next((code for code in map(_exit_code, jobs) if code), 0))


def _estimate(session: Session, body: dict[str, Any]) -> None:
    """Say when the job would start."""
    from leptond.cli.text import phrases

    found = session.api.post("/v1/queue/estimate", body)
    if session.json:
        session.emit(found)
        return
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

"""`leptonctl submit`, and the options that describe a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptond.base.usage import Usage
from leptond.cli.framework import refs
from leptond.cli.framework.declare import F, argument, command, option
from leptond.cli.framework.params import BEGIN, JOB, LIMIT, SECONDS, SIGNAL, SIZE, commas
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.client import job_spec as spec
from leptond.core.jobs.scalars import scalar


def with_directives(given: Mapping[str, Any]) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines of the script that `given` (raw values by name)
    names as its first word. They come before those of the command line, which therefore win. Raises Usage."""
    words, cwd = given.get("argv"), given.get("cwd")
    if not words or given.get("shell"):
        return []
    script = Path(cwd if isinstance(cwd, str) else ".") / str(words[0])
    if not script.is_file():
        return []
    return spec.directives(script, ignore=frozenset(commas(tuple(given.get("ignore_sbatch") or ()))))


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    option("-g", "--gpus", type=int, default=0, metavar="N", help="How many whole GPUs [0]."),
    option("--gpu-type", metavar="NAME", help="Of this type: h100, a100-80gb; commas for any of."),
    option(
        "--gpu-mem", "gpu_memory_bytes", type=SIZE, help="A share of a GPU: so much memory of each, as 20G."
    ),
    option("--preemptible", is_flag=True, help="It saves on SIGTERM and resumes: it may make room."),
    option("--urgent", is_flag=True, help="Before every other job; needs the right."),
    option("--exclusive", is_flag=True, help="No other job on its GPUs, whatever --gpu-mem says."),
    option("-Q", "--queue", metavar="NAME", help="The queue that it waits in [default]."),
    option(
        "-t", "--time", "time_limit_s", type=LIMIT, help="Time limit: 90m, 2h, 1-12:00:00; 45 is minutes."
    ),
    option(
        "-p", "--priority", type=int, default=0, metavar="N", help="Higher runs first, -1000 to 1000 [0]."
    ),
    option("-n", "--name", help="Its name [the script's or program's]."),
    option("-C", "--chdir", "cwd", metavar="DIR", help="Where it runs [here]."),
    option("-e", "--env", multiple=True, metavar="K=V|K", help="Set a variable, or copy it from here."),
    option("--export", metavar="ALL|NONE|NAMES", help="Which variables to copy from here (see below)."),
    option("-d", "--after", multiple=True, type=JOB, metavar="JOBS", help="After these have succeeded."),
    option("--after-any", multiple=True, type=JOB, metavar="JOBS", help="After these have ended."),
    option("--after-fail", multiple=True, type=JOB, metavar="JOBS", help="After these have failed."),
    option("--array", metavar="SPEC", help="Many jobs: 0-9, 1,3,5-7, 0-15:5; %4 runs at most 4 at a time."),
    option("--retries", type=int, metavar="N", help="Retries after a failure of the job's own."),
    option("--retry-delay", "retry_delay_s", type=SECONDS, help="Wait before the first; doubles each time."),
    option("--retry-max-delay", "retry_max_delay_s", type=SECONDS, help="Longest such wait."),
    option("--retry-on", multiple=True, metavar="CODES", help="Also retry: exit codes, SIGNALS, classes."),
    option("--no-retry-on", multiple=True, metavar="CODES", help="Never retry these."),
    option("--cold", is_flag=True, help="Start with an interpreter of its own, never from a warm process."),
    option("--fail-fast/--no-fail-fast", default=None, help="Whether the same error twice ends the retries."),
    option("--no-requeue", is_flag=True, help="Do not run it again after a crash of the machine."),
    option("--grace", "grace_s", type=SECONDS, help="Between the stop signal and the kill."),
    option("--signal", "warn", type=SIGNAL, help="A signal before the time limit, as USR1@120 (seconds)."),
    option(
        "--nproc", metavar="auto|N", help="Run a Python script as N ranks under torchrun; auto: one a GPU."
    ),
    option(
        "--no-progress",
        "no_progress_s",
        type=SECONDS,
        help="Stop it as hung when it reports no new step for so long.",
    ),
    option("--begin", "begin_at", type=BEGIN, help="Not before: now+2h, 18:00, 2026-12-24T18:00."),
    option("--hold", is_flag=True, help="Wait until it is released."),
    option("--project", help="What its time is booked on."),
    option("--param", multiple=True, metavar="K=V", help="A parameter for leptond.job.params, as often."),
    option("--label", multiple=True, metavar="K=V", help="A label, as often as you like."),
    option("--log-max", "log_max_bytes", type=SIZE, help="Most output to keep, as 256M."),
    option("-o", "--output", metavar="PATH", help="Its output also there; %j job, %A_%a array, %x name."),
    option("--track", multiple=True, metavar="NAMES", help="One run over all attempts: wandb, tensorboard."),
    option("--shell", is_flag=True, help="The command is one string for /bin/sh -c."),
    option(
        "--ignore-sbatch", multiple=True, metavar="NAMES", help="Leave these #SBATCH options of a script out."
    ),
)


def job_options(function: F) -> F:
    """Add the options that describe a job, and its command."""
    function = argument("argv", nargs=-1, required=True, metavar="COMMAND...")(function)
    for add in reversed(_OPTIONS):
        function = add(function)
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
    """The body of a submit from the values of the options. Raises ClientError, Usage."""
    words = [str(word) for word in given["argv"]]
    cwd = Path(os.path.abspath(given["cwd"] or "."))  # noqa: PTH100  # links stay as the user sees them
    env = spec.build_env(os.environ, given["export"], given["env"])
    name = given["name"]
    if given["shell"] and given["nproc"] is not None:
        raise Usage("--nproc starts a Python script, and --shell a command line; say one of them")
    if given["shell"]:
        if len(words) != 1:
            raise Usage("--shell takes one string; put the whole command line in quotes")
    else:
        path = env.get("PATH") or os.environ.get("PATH", os.defpath)
        words, script_name = spec.resolve_command(words, cwd=cwd, path=path)
        name = name or script_name
        if given["nproc"] is not None:
            from leptond.client import torchrun

            if name is None and words[1:2] == ["-m"]:
                name = spec.name_of(words[2]) if len(words) > 2 else None
            words = torchrun.under_torchrun(words, torchrun.count(given["nproc"], given["gpus"]))
        if "/" not in words[0]:
            session.warn(f"{words[0]!r} is not on the PATH here; the job will look for it when it starts")
    for word in (*words, str(cwd), *env.values()):
        if not spec.is_text(word):
            raise Usage(f"{word!r} is not UTF-8; arguments, paths and variables must be")
    after, after_any, after_fail = _dependencies(session, given)
    wants_gpu = given["gpu_type"] or given["gpu_memory_bytes"] or given["exclusive"]
    body = {
        "argv": words,
        "shell": given["shell"] or None,
        "cwd": str(cwd),
        "env": env or None,
        "name": name,
        "project": given["project"],
        "labels": _labels(given["label"]) or None,
        "params": _params(given["param"]) or None,
        # who names a kind of GPU wants one
        "gpus": given["gpus"] or int(bool(wants_gpu)),
        "gpu_type": given["gpu_type"],
        "gpu_memory_bytes": given["gpu_memory_bytes"],
        "exclusive": given["exclusive"] or None,
        "preemptible": given["preemptible"] or None,
        "urgent": given["urgent"] or None,
        "queue": given["queue"],
        "priority": given["priority"] or None,
        "time_limit_s": given["time_limit_s"],
        "grace_s": given["grace_s"],
        "warn_signal": {"signal": given["warn"][0], "before_s": given["warn"][1]} if given["warn"] else None,
        "no_progress_s": given["no_progress_s"],
        "retries": given["retries"],
        "retry_delay_s": given["retry_delay_s"],
        "retry_max_delay_s": given["retry_max_delay_s"],
        "retry_on": commas(given["retry_on"]) or None,
        "no_retry_on": commas(given["no_retry_on"]) or None,
        "requeue": False if given["no_requeue"] else None,
        "fail_fast": given["fail_fast"],
        "cold": given["cold"] or None,
        "after": after or None,
        "after_any": after_any or None,
        "after_fail": after_fail or None,
        "array": given["array"],
        "hold": given["hold"] or None,
        "begin_at": given["begin_at"],
        "log_max_bytes": given["log_max_bytes"],
        "output": os.path.normpath(cwd / given["output"]) if given["output"] else None,
        "track": commas(given["track"]) or None,
    }
    return {field: value for field, value in body.items() if value is not None}


def _labels(settings: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise Usage(f"{setting!r} is not K=V", option="--label")
        labels[name] = value
    return labels


def _params(settings: tuple[str, ...]) -> dict[str, int | float | str]:
    params = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise Usage(f"{setting!r} is not K=V", option="--param")
        params[name] = scalar(value)
    return params


_SLURM_KINDS = {"afterok": 0, "afterany": 1, "afternotok": 2}


def _dependencies(session: Session, given: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """The jobs to wait for, by kind. ``-d`` also reads sbatch's ``afterok:12:13``."""
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for kind, field in enumerate(("after", "after_any", "after_fail")):
        for text in commas(given[field]):
            slurm, colon, rest = text.partition(":")
            if field == "after" and colon:
                if slurm not in _SLURM_KINDS:
                    raise Usage(f"{slurm!r} is not afterok, afterany or afternotok", option="--after")
                found[_SLURM_KINDS[slurm]].extend(refs.dependency(session, part) for part in rest.split(":"))
            else:
                found[kind].append(refs.dependency(session, text))
    return found


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

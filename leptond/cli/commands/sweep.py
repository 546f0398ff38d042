"""`leptonctl sweep` and `leptonctl sweeps`: many configurations of one command."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leptond.base.usage import UsageError
from leptond.cli.commands.submit import MORE_HELP, job_options, job_spec, post, with_directives
from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.output import Cell, Column, print_line, print_table
from leptond.cli.framework.params import Whole
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.cli.text import phrases
from leptond.client.errors import EXIT_NOT_FOUND, ClientError
from leptond.core.jobs.scalars import choices

POLL_S = 30.0
SCRIPTS = (".py", ".sh", ".bash")
SHOWN = 20
"""Sweeps that are listed unless `-n` asks for more."""


def _configuration(session: Session, given: dict[str, Any]) -> dict[str, Any]:
    """The body of a sweep from the values of the options. Raises ClientError, UsageError."""
    if given["array"] is not None:
        raise UsageError("a sweep is an array of its own; leave it out", option="--array")
    grid = _named(given["grid"], "--grid")
    drawn = _named(given["random"], "--random")
    for name in (*grid, *drawn):
        if name in grid and name in drawn:
            raise UsageError(f"{name} is in --grid and in --random; say one of them")
    if not grid and not drawn:
        raise UsageError("there is nothing to try: say --grid lr=1e-3,1e-4 or --random lr=log:1e-5..1e-1")
    if drawn and given["count"] is None:
        raise UsageError("how many trials? --random needs --n")
    try:
        values = {name: choices(text) for name, text in grid.items()}
    except ValueError as error:
        raise UsageError(str(error), option="--grid") from None
    _must_be_there(given["argv"], given["cwd"], given["shell"])
    body = {
        "job": job_spec(
            session, {**given, "argv": _with_python(given["argv"], given["cwd"], given["shell"])}
        ),
        "grid": values or None,
        "random": drawn or None,
        "trials": given["count"],
        "seed": given["seed"],
        "arguments": False if given["no_arguments"] else None,
        "metric": given["metric"],
        "mode": "max" if given["maximize"] else None,
        "halving": False if given["halving"] is False else None,
        "min_step": given["min_step"],
        "eta": given["eta"],
        "concurrent": given["concurrent"],
    }
    return {field: value for field, value in body.items() if value is not None}


def _named(settings: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"{setting!r} is not NAME=VALUES", option=option)
        if name in found:
            raise UsageError(f"{name} is named twice", option=option)
        found[name] = value
    return found


def _must_be_there(argv: Sequence[str], cwd: str | None, shell: bool) -> None:
    """Raises UsageError for a script that is not there, and for a program that is not found: every trial
    would fail. What a parameter fills in ({NAME}) is not looked at."""
    from shutil import which

    from leptond.core.admission.training import script_of

    if shell:
        return
    place, script = Path(cwd or "."), script_of(argv, shell=False)
    if script is not None and "{" not in script and Path(script).suffix in SCRIPTS:
        if not (place / script).is_file():
            raise UsageError(f"there is no file {script} in {place.absolute()}: every trial would fail")
    elif "{" not in argv[0] and which(argv[0]) is None and not (place / argv[0]).is_file():
        raise UsageError(
            f"{argv[0]} is neither a program on the PATH nor a file here: every trial would fail"
        )


def _with_python(argv: Sequence[str], cwd: str | None, shell: bool) -> tuple[str, ...]:
    """A script of Python's that cannot be started by itself goes to the python of this shell."""
    from shutil import which

    script = Path(cwd or ".") / argv[0]
    if shell or script.suffix != ".py" or not script.is_file() or os.access(script, os.X_OK):
        return tuple(argv)
    return ("python" if which("python") else "python3", *argv)


@command("sweep", expand=with_directives, help=f"""
    Queue many trials of a command, each with other parameters, and stop those early that others are better
    than: leptonctl sweep train.py --grid lr=1e-3,1e-4 --random wd=log:1e-4..1e-1 --n 20 --gpus 1

    A script of Python is enough; options of the command itself come after --, as in: leptonctl sweep --grid
    lr=1e-3,1e-4 -- python train.py --epochs 3. The command is told of each parameter as --NAME=VALUE, at its
    end, or where it says {{NAME}}; leptond.job.params has them too.

    --grid tries every combination. --random draws from log:1e-5..1e-1, uniform:0..0.5, int:1..8 or a list
    with commas, anew for each of the --n trials; with a grid as well, its combinations come in turn.

    A trial that reaches a rung (--min-step times a power of --eta steps) goes on only if it is among the best
    1/eta of those that have reached it. That needs reports of the metric and the step (leptond.job.report, or
    lines such as ::leptond step=120 total=2000 loss=1.83).
{MORE_HELP}""", short_help="Try many configurations of a command; stop the bad ones early.")  # fmt: skip
@option("--grid", multiple=True, metavar="NAME=A,B", help="Try each of these values, in every combination.")
@option("--random", multiple=True, metavar="NAME=SPACE", help="Draw from log:LOW..HIGH, uniform:, int:, A,B.")
@option("--n", "count", type=Whole(1), metavar="N", help="How many trials [all combinations of the grid].")
@option("--seed", type=Whole(0), metavar="N", help="The same draws the same [0].")
@option("--metric", metavar="NAME", help="What is compared, as it is reported [loss].")
@option("--maximize/--minimize", default=None, help="Whether more of it is better [less is].")
@option("--halving/--no-halving", default=None, help="Whether trials are stopped early [they are].")
@option("--min-step", type=Whole(1), metavar="N", help="The first rung [the total / eta^3].")
@option("--eta", type=Whole(2, 100), metavar="N", help="One of so many goes on at each rung [3].")
@option("--concurrent", type=Whole(1), metavar="K", help="At most K trials at a time.")
@option("--no-arguments", is_flag=True, help="Add nothing to the command that it has no {NAME} for.")
@option("-q", "--parsable", is_flag=True, help="Print the number alone.")
@option("--wait", "wait_for_it", is_flag=True, help="Wait for the last trial, then print the results.")
@job_options
def sweep_command(session: Session, parsable: bool, wait_for_it: bool, **given: Any) -> None:
    body = _configuration(session, given)
    answer = post(session, "/v1/sweeps", body)
    for warning in answer.get("warnings") or []:
        session.warn(str(warning))
    number = answer["id"]
    if session.json and not wait_for_it:
        session.emit(answer)
    elif parsable:
        echo(number)
    elif not session.json:
        echo(f"Submitted sweep {number} ({len(answer['ids'])} trials)")
        if not wait_for_it:
            session.say(f"leptonctl sweeps {number} shows how they do, leptonctl cancel {number} ends it")
    if wait_for_it:
        found = _ended(session, number)
        _show(session, found)
        leave(0 if found["counts"].get("succeeded") else 1)


def _ended(session: Session, number: int) -> dict[str, Any]:
    while True:
        query = {"wait_s": f"{POLL_S:g}"}
        reply = session.api.request(
            "GET", f"/v1/sweeps/{number}", query=query, wait_s=POLL_S, patience_s=60.0, persistent=True
        )
        found: dict[str, Any] = reply.json()
        if found["state"] == "ended":
            return found


_LIST = (
    Column("SWEEP", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6),
    Column("STATE"),
    Column("TRIALS", fold=True),
    Column("BEST"),
    Column("WITH", fold=True),
    Column("SUBMITTED"),
)


@command("sweeps", short_help="The sweeps, or how the trials of one do.")
@argument("sweep", required=False)
@option("--limit", type=Whole(1, 100), metavar="N", help=f"At most so many of the newest [{SHOWN}].")
def sweeps_command(session: Session, sweep: str | None, limit: int | None) -> None:
    """List the sweeps, or show the trials of SWEEP (its number, or @last), the best first: their parameters,
    what they have shown of the metric, who was stopped early and why, and the command that runs the best
    again."""
    if sweep is not None:
        _show(session, session.api.get(f"/v1/sweeps/{_number(session, sweep)}"))
        return
    found = session.api.get("/v1/sweeps", {"limit": limit or SHOWN})
    if session.json:
        session.emit(found)
        return
    if not found["items"]:
        session.say("There are no sweeps. Start one: leptonctl sweep train.py --gpus 1 --grid lr=1e-3,1e-4")
        if session.table:
            return
    print_table(session, _LIST, (_line(one, table=session.table) for one in found["items"]))


def _number(session: Session, text: str) -> int:
    """The number of a sweep. Raises ClientError, UsageError."""
    if text == "@last":
        found = session.api.get("/v1/sweeps", {"limit": 1})["items"]
        if found:
            return int(found[0]["id"])
        problem = {"type": "/problems/not-found", "title": "Not found", "status": 0}
        raise ClientError({**problem, "detail": "there are no sweeps yet"}, exit_code=EXIT_NOT_FOUND)
    number = text.removesuffix("_*")
    if not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise UsageError(f"{text!r} is not the number of a sweep; leptonctl sweeps lists them")
    return int(number)


def _line(one: phrases.Body, *, table: bool) -> list[Cell]:
    counts = one["counts"]
    trials = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in sorted(counts.items()))
    best = one.get("best")
    return [
        one["id"],
        one["name"],
        one["user"],
        one["state"],
        trials,
        f"{one['metric']} {best['value']:.4g}" if best else None,
        _params(best["params"]) if best else None,
        phrases.ago(one["submitted_at"], table=table),
    ]


def _params(params: phrases.Body) -> str:
    return " ".join(f"{name}={value}" for name, value in params.items())


def _show(session: Session, found: dict[str, Any]) -> None:
    """The trials, the best first; for people also what came of it."""
    if session.json:
        session.emit(found)
        return
    names = list(dict.fromkeys(name for trial in found["trials"] for name in trial["params"]))
    columns = (
        Column("TRIAL", right=True),
        *(Column(name, right=True) for name in names),
        Column(str(found["metric"]).upper(), right=True),
        Column("STEP", right=True),
        Column("STATE"),
        Column("GPU-S", right=True),
        Column("SAVED", right=True),
        Column("WHY", fold=True),
    )
    ordered = sorted(found["trials"], key=lambda trial: _rank(trial, found["mode"]))
    print_table(session, columns, (_trial_row(trial, names) for trial in ordered))
    if session.table:
        _sum_up(session, found)
    if found.get("best") is None and found["state"] == "ended":
        session.warn(_nothing_reported(session, found))


def _nothing_reported(session: Session, found: dict[str, Any]) -> str:
    """Why a sweep that has ended has no best trial, and what to do about it."""
    from leptond.cli.framework.refs import job_path

    metric = found["metric"]
    ended_well = [trial for trial in found["trials"] if trial["state"] == "succeeded"]
    if not ended_well:
        return "No trial has succeeded: see why of one with: leptonctl why " + str(found["trials"][0]["ref"])
    progress = session.api.get(job_path(ended_well[0]["ref"])).get("progress") or {}
    others = sorted(name for name in progress.get("metrics") or {} if name != metric)
    begin = f"No trial reported {metric}, so none could be compared or stopped early. "
    if others:
        return begin + f"They report {', '.join(others)}: name one with --metric {others[0]}"
    return begin + (
        f"In the command: from leptond import job; job.report(step=n, total=N, {metric}=...); or print lines"
        f" such as ::leptond step=3 total=9 {metric}=0.5"
    )


def _rank(trial: phrases.Body, mode: str) -> tuple[int, float, int]:
    """The best newest value first; those that were not let run to the end after those that were."""
    value = trial["value"]
    cost = math.inf if value is None else value if mode == "min" else -value
    return (trial["state"] != "succeeded", cost, trial["number"])


def _trial_row(trial: phrases.Body, names: Sequence[str]) -> list[Cell]:
    early = trial["stopped_early"]
    why = str(trial["explanation"] or "").removeprefix("stopped early: ")
    saved = trial["saved_gpu_seconds"]
    return [
        trial["ref"],
        *(trial["params"].get(name) for name in names),
        _figure(trial["value"]),
        trial["step"],
        "stopped early" if early else trial["state"],
        f"{trial['gpu_seconds']:.1f}",
        None if saved is None else f"{saved:.1f}",
        why if trial["state"] != "succeeded" else None,
    ]


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _sum_up(session: Session, found: dict[str, Any]) -> None:
    from leptond.cli.framework.refs import job_path
    from leptond.core.jobs import resubmit

    counts = found["counts"]
    early, count = counts.get("stopped_early", 0), sum(counts.values())
    echo()
    if early:
        print_line(
            session,
            f"{early} of {count} trials were stopped early: {found['gpu_seconds']:.1f} GPU-seconds used,"
            f" about {found['saved_gpu_seconds']:.1f} saved (an estimate: the steps that they had left, at"
            " their pace)",
        )
    best = found.get("best")
    if best is None:
        return
    at = f" at step {best['step']}" if best.get("step") is not None else ""
    print_line(
        session,
        f"Best: {best['ref']}, {found['metric']} {best['value']:.4g}{at}: {_params(best['params'])}",
    )
    job = session.api.get(job_path(best["ref"]))
    # neither cut nor wrapped: it is there to be copied
    echo(resubmit.line(job["spec"], name=job["name"]))

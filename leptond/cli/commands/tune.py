"""`leptonctl tune`: change what a running job lets be changed."""

from __future__ import annotations

import click

from leptond.cli.framework import refs
from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.params import JOB
from leptond.cli.framework.session import Session


@command("tune", short_help="Turn a running job's knobs, such as its learning rate.")
@click.argument("job", type=kind(JOB))
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
def tune_command(session: Session, job: str, settings: tuple[str, ...]) -> None:
    """Turn knobs of JOB while it runs, as in: leptonctl tune 47 lr=3e-5.

    Its script declares the knobs and their bounds (leptond.job.knob); leptonctl show lists them. What is
    asked for counts from the job's next step on, and for its retries.
    """
    values = dict(_setting(text) for text in settings)
    answer = session.api.post(
        refs.job_path(refs.one(session, job, same_name="unfinished"), "tune"), {"values": values}
    )
    if session.json:
        session.emit(answer)
        return
    shown = ", ".join(f"{name}={value:g}" for name, value in values.items())
    click.echo(f"Job {answer['ref']} is told: {shown}")


def _setting(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not equals or not name or number - number != 0:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER", param_hint="NAME=VALUE")
    return name, number

"""`leptonctl tensorboard`: TensorBoard over what a job has written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click

from leptond.cli.framework import refs
from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.params import JOB
from leptond.cli.framework.session import Session, leave
from leptond.client.target import find_target


@command("tensorboard", short_help="TensorBoard over a job's runs.")
@click.argument("job", type=kind(JOB))
@click.option("--logdir", metavar="DIR", help="Where its event files are [its checkpoints' directory].")
@click.option("--port", type=click.IntRange(1, 65535), default=6006, metavar="N", help="Its port [6006].")
def tensorboard_command(session: Session, job: str, logdir: str | None, port: int) -> None:
    """Run TensorBoard over the event files of JOB, of all its attempts and retries, until Ctrl-C.

    It looks in the job's checkpoint directory ($LEPTOND_CHECKPOINT_DIR; submit --track tensorboard sends the
    Hugging Face Trainer there), or in --logdir, which counts from the job's directory. The program is the one
    of the job's own environment, or else the one on your PATH.
    """
    found = session.api.get(refs.job_path(refs.one(session, job)))
    target = find_target(session.host, os.environ)
    if target.path is None and target.host not in ("localhost", "127.0.0.1", "::1"):
        session.warn(
            f"the job's files are on {target.host}; run this there, and ssh -L {port}:127.0.0.1:{port}"
        )
        leave(1)
    spec = found["spec"]
    place = Path(spec.get("cwd") or "/", logdir) if logdir else Path(found["checkpoint_dir"])
    program = _program(spec)
    if program is None:
        session.warn(
            "there is no tensorboard in the job's environment nor on the PATH: pip install tensorboard"
        )
        leave(1)
        return
    if not any(place.rglob("*tfevents*")):
        session.warn(f"there are no event files below {place} yet; TensorBoard shows them when they come")
    words = [program, "--logdir", str(place), "--port", str(port)]
    if session.json:
        session.emit({"argv": words})
        return
    session.say(f"http://127.0.0.1:{port}  from another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE")
    os.execv(program, words)


def _program(spec: dict[str, Any]) -> str | None:
    """Beside the job's interpreter, in its environment, or on the PATH here."""
    argv, env = spec.get("argv") or [""], spec.get("env") or {}
    places = [Path(argv[0]).parent if argv[0].startswith("/") else None]
    places += [Path(env[name], "bin") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if env.get(name)]
    for place in places:
        found = shutil.which("tensorboard", path=str(place)) if place is not None else None
        if found is not None:
            return found
    return shutil.which("tensorboard")

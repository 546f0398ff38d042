"""How a running job hears that its knobs were turned: a file in its attempt's directory, replaced whole, that
:mod:`leptond.job` looks at in every step. The database holds what was asked for; the file follows it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from leptond.core.jobs.model import Job

NAME = "tune.json"


def leave(directory: Path, job: Job) -> bool:
    """Leaves what was asked of `job` in an attempt's directory; False when that is not there. Raises
    OSError."""
    body = {
        "version": job.tuned_version,
        "values": {name: asked.value for name, asked in job.tuned.items()},
        "versions": {name: asked.version for name, asked in job.tuned.items()},
    }
    temporary = directory / f".{NAME}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return False
    try:
        os.write(fd, msgspec.json.encode(body))  # at most a few KiB
    finally:
        os.close(fd)
    temporary.replace(directory / NAME)
    return True

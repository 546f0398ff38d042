"""The values of a running job's knobs: a file in its attempt's directory, replaced whole, that
:mod:`leptond.job` checks in every step. The database holds what was asked for; the file follows it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from leptond.attempt_files import layout
from leptond.core.jobs.model import Job


def leave(directory: Path, job: Job) -> bool:
    """Write the values that were asked of `job` into an attempt's directory; False when that is not there.
    Raises OSError."""
    body = {
        "version": job.tuned_version,
        "values": {name: asked.value for name, asked in job.tuned.items()},
        "versions": {name: asked.version for name, asked in job.tuned.items()},
    }
    temporary = directory / f".{layout.KNOBS}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return False
    try:
        os.write(fd, msgspec.json.encode(body))  # at most a few KiB
    finally:
        os.close(fd)
    temporary.replace(directory / layout.KNOBS)
    return True

"""The values of a running job's knobs: a file in its attempt's directory, replaced whole, that
:mod:`leptond.job` checks in every step. The database holds what was asked for; the file follows it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from leptond.attempt_files import layout, own_directory
from leptond.base import nofollow
from leptond.base.durable import write_whole
from leptond.core.jobs.model import Job


def leave(directory: Path, job: Job) -> bool:
    """Write the values that were asked of `job` into an attempt's directory; False when that is not there.
    Raises OSError."""
    body = {
        "version": job.tuned_version,
        "values": {name: asked.value for name, asked in job.tuned.items()},
        "versions": {name: asked.version for name, asked in job.tuned.items()},
    }
    text = msgspec.json.encode(body).decode()
    try:
        with nofollow.directory(directory) as fd:
            write_whole(fd, layout.KNOBS, text, sync=False)
        own_directory.leave_copy(directory, layout.KNOBS, text)
    except FileNotFoundError:
        return False
    return True

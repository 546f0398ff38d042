"""The names of the files in an attempt's directory, and of the directories above it.

Shims load this module, so it imports nothing. :mod:`leptond.job` runs inside jobs and has its own copies of
the two names that it needs; a test compares them.
"""

from __future__ import annotations

JOBS_DIR = "jobs"
"""Below the state directory: a directory a job, in it one for each attempt by its number."""
WARM_DIR = "warm"
"""Below the state directory: what is known of the imports of each interpreter, a file an interpreter."""
CHECKPOINTS_DIR = "checkpoints"
"""Below the state directory: a directory a checkpoint id."""
STANDBY_DIR = ".deck"
"""Below `JOBS_DIR`: attempts that have not had their GO, a directory an attempt id. The shim moves it to its
place when the gate opens. (The name is that of releases before 0.5, whose shims may still run.)"""
PROBE_DIR = ".probe"
"""Below `JOBS_DIR`: made and removed to find out if the disk takes new files."""

LOCK = "lock"
"""Locked by the shim until it has left the exit record."""
IDENTITY = "identity.json"
"""The identity of the shim; with the claim of the attempt from GO on."""
EXIT = "exit.json"
"""The exit record."""
STOP = "stop.json"
"""A request to stop the attempt."""
KNOBS = "tune.json"
"""The values of the job's knobs."""
LAST_WORD = "word.json"
"""The reason for its end that the program itself gave (:mod:`leptond.job`)."""
ERROR = "error.json"
"""The exception that ended a worker, in the format of torchrun (``TORCHELASTIC_ERROR_FILE``)."""
SCRIPT_DIR = "script"
"""The directory of the copy of a script that the attempt runs."""
COPY = "copy.json"
"""In the directory of a job: the file at its `output` path, and how much of its output is in it."""
OWN_DIR = "own"
"""The directory that belongs to the account of a job, where that is not the daemon's: what the job writes
for the daemon is there, and copies of what the daemon writes for the job."""
SHIM_LOG = "shim.log"
"""Standard error of the shim."""
OUTPUT = "output.log"
"""The first bytes of the output."""
SEGMENT_PATTERN = r"^output\.([0-9]{16})\.log$"
"""The names that :func:`segment` makes."""


def segment(offset: int) -> str:
    """Return the name of the file that holds the output from byte `offset` on.

    >>> segment(4096)
    'output.0000000000004096.log'
    """
    return f"output.{offset:016d}.log"

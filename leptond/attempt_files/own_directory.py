"""The directory of an attempt that belongs to the account of its job, where jobs run as their submitters:
what stands there is the job's word, and no path in it is trusted."""

from __future__ import annotations

import os
from pathlib import Path

from leptond.attempt_files import layout
from leptond.base import accounts, nofollow
from leptond.base.accounts import Account
from leptond.base.durable import write_whole

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(directory: Path, submitter: Account) -> None:
    """Make it in the directory of an attempt, which others may pass through from now on. Raises OSError."""
    directory.chmod(0o711)
    own = directory / layout.OWN_DIR
    own.mkdir(mode=0o700)
    os.chown(own, submitter.uid, submitter.gid, follow_symlinks=False)


def leave_copy(directory: Path, name: str, text: str) -> None:
    """Write for the job what the daemon has written into the attempt's `directory`, with the rights of the
    job's account; nothing where it has no directory of its own. Raises OSError."""
    try:
        own = nofollow.open_directory(directory / layout.OWN_DIR, own=3)
    except FileNotFoundError:
        return
    try:
        with accounts.acting_as_owner(os.fstat(own)):
            write_whole(own, name, text, sync=False)
    finally:
        os.close(own)


def read(directory: Path, name: str, limit: int) -> bytes | None:
    """Return the beginning of what the job has left in its own directory, or, where it has none, in that of
    the attempt; None where there is nothing."""
    for path, own in ((directory / layout.OWN_DIR / name, 3), (directory / name, 2)):
        try:
            # linked: a rank that leaves its word may be killed before it removes the other name
            return nofollow.read_file(path, limit, own=own, linked=True)
        except OSError:
            continue
    return None


def open_in(directory: int) -> int | None:
    """Return a descriptor of the one in an attempt's `directory` (a descriptor); None where there is none."""
    try:
        return os.open(layout.OWN_DIR, _DIRECTORY, dir_fd=directory)
    except OSError:
        return None

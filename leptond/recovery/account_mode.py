"""A queue that begins to run jobs as their submitters. While every job had the daemon's rights, any of them
could write to the queue, so what stands there of submitters is nobody's word."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import structlog

from leptond.base.durable import sync_directory
from leptond.store import Store
from leptond.store.queue import jobs

log = structlog.get_logger("leptond.recovery")

MARK = "multi-user"
"""A file of the state directory that is there while the queue runs jobs as their submitters."""


async def settle_accounts(store: Store, state_dir: Path, *, multi_user: bool) -> None:
    """Note the mode of this start; at the first in which jobs run as their submitters, forget who has
    submitted those that are not over. Raises StoreError, OSError."""
    mark = state_dir / MARK
    if not multi_user:
        mark.unlink(missing_ok=True)
        return
    if _is_ours(mark):
        return
    forgotten = await store.write(jobs.forget_submitters)
    mark.unlink(missing_ok=True)
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    sync_directory(str(state_dir))
    if forgotten:
        log.warning("accounts.submitters_forgotten", jobs=forgotten)


def _is_ours(mark: Path) -> bool:
    """Return True for a mark that this daemon's user has left: a job could have left one of its own."""
    try:
        seen = mark.lstat()
    except OSError:
        return False
    return stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid()

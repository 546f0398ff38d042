"""The accounts that attempts run under: the daemon's own, or in multi-user mode that of each job's submitter;
and the places below the state directory that those accounts have to reach."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

import structlog

from leptond.attempt_files import layout
from leptond.base import accounts
from leptond.base.accounts import Account
from leptond.base.errors import EXIT_CONFIG, StartRefused, start_refused
from leptond.core.access.run_as import AccountSettings, refusal
from leptond.core.jobs.model import Job

log = structlog.get_logger("leptond.engine")

PASSABLE = 0o711
"""The mode of a directory through which others reach what is theirs, without a list of what else is there."""


class Refused(Exception):
    """No attempt of this job may start; the text says why."""


class Accounts:
    """Finds the account of each job, as the settings have it. The attempt's own process looks it up again,
    right before it becomes that account."""

    def __init__(self, settings: AccountSettings) -> None:
        self._settings = settings
        entry = pwd.getpwuid(os.geteuid())
        self.own = Account(
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            groups=(),
            name=entry.pw_name,
            home=entry.pw_dir,
            shell=entry.pw_shell or "/bin/sh",
        )

    @property
    def multi_user(self) -> bool:
        """True if jobs run as their submitters."""
        return self._settings.multi_user

    async def submitter(self, job: Job) -> Account | None:
        """Return the account that an attempt of `job` becomes; None for the daemon's own. Raises Refused, and
        OSError where the machine's directory of accounts does not answer."""
        if not self.multi_user:
            return None
        if job.uid is None:
            raise Refused("it was submitted before jobs ran as their submitters here: submit it again")
        found = refusal(self._settings, uid=job.uid, name=job.user, daemon_uid=self.own.uid)
        if found is not None:
            raise Refused(f"{found.why} ({found.hint})")
        return await self._find(job.uid, job.user)

    async def _find(self, uid: int, name: str) -> Account:
        try:
            return await asyncio.to_thread(accounts.recent, uid, name)
        except accounts.NoAccount as error:
            raise Refused(str(error)) from None


def check_rights(settings: AccountSettings) -> None:
    """Raise StartRefused where this process cannot run jobs as their submitters, although it is to."""
    if not settings.multi_user:
        return
    if os.geteuid() != 0:
        raise StartRefused(
            'accounts.mode is "multi-user", which needs a daemon that runs as root. Start it as root (see'
            ' systemd/leptond-multi-user.service), or set accounts.mode = "service-user".',
            EXIT_CONFIG,
        )
    missing = accounts.missing_capabilities()
    if missing:
        raise StartRefused(
            f'accounts.mode is "multi-user", and this process lacks {", ".join(missing)}:'
            " its unit, or its container, takes them away (CapabilityBoundingSet=).",
            EXIT_CONFIG,
        )


def open_places(state_dir: Path) -> None:
    """Let the accounts of jobs through the state directory to their own files, and keep everything else in it
    to the daemon's user. Raises StartRefused."""
    try:
        _check_way(state_dir)
        passable = [state_dir, state_dir / layout.JOBS_DIR, state_dir / layout.CHECKPOINTS_DIR]
        for entry in os.scandir(state_dir):
            seen = entry.stat(follow_symlinks=False)
            private = seen.st_mode & 0o7700
            if entry.is_symlink() or Path(entry.path) in passable or _is_socket(seen):
                continue
            if seen.st_mode & 0o77:
                os.chmod(entry.path, private, follow_symlinks=False)  # noqa: PTH101 - of no link
        for directory in passable:
            directory.mkdir(mode=0o700, exist_ok=True)
            _let_pass(directory)
    except OSError as error:
        raise start_refused(f"the state directory {state_dir} cannot be used", error) from None


def _is_socket(seen: os.stat_result) -> bool:
    return seen.st_mode & 0o170000 == 0o140000


def _let_pass(directory: Path) -> None:
    """Open a directory of the daemon's for others to go through. Raises StartRefused, OSError."""
    seen = directory.lstat()
    if seen.st_uid != os.geteuid():
        raise StartRefused(
            f"{directory} belongs to uid {seen.st_uid}: where jobs run as their submitters it has to be the"
            f" daemon's own. End all jobs, then: chown {os.geteuid()} {directory}",
            EXIT_CONFIG,
        )
    directory.chmod(PASSABLE)


def _check_way(state_dir: Path) -> None:
    """Raise StartRefused where others cannot reach the state directory, or might exchange it."""
    for above in state_dir.resolve().parents:
        seen = above.stat()
        if not seen.st_mode & 0o001:
            raise StartRefused(
                f"jobs run as their submitters, who cannot get through {above} to the state directory"
                f" {state_dir}: choose another --state-dir (such as /var/lib/leptond), or chmod o+x {above}",
                EXIT_CONFIG,
            )
        if seen.st_mode & 0o022 and not seen.st_mode & 0o1000:
            raise StartRefused(
                f"others may write to {above}, and so exchange the state directory {state_dir} below it:"
                f" choose another --state-dir, or chmod go-w {above}",
                EXIT_CONFIG,
            )

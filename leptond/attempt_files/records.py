"""The files that daemon, shim and job leave for each other in an attempt's directory, as values."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from leptond.attempt_files import knobs, layout, own_directory
from leptond.attempt_files.directory import RECORD_BYTES, is_held
from leptond.attempt_files.output_log import JobLog
from leptond.base import nofollow
from leptond.base.accounts import Account
from leptond.base.durable import write_durably
from leptond.base.paths import make_directory
from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job
from leptond.core.outcome.classify import LOG_TAIL_BYTES
from leptond.core.outcome.evidence import Word

PAGE_BYTES = 4096
SHIM_LOG_CHARACTERS = 500
"""The part of a shim's own errors that is quoted."""

LEFT = frozenset({layout.EXIT, layout.OUTPUT, layout.SHIM_LOG, layout.LAST_WORD, layout.ERROR})
"""What an attempt leaves for later, beside the segments of its output."""

_SEGMENT = re.compile(layout.SEGMENT_PATTERN)
_exit_record = msgspec.json.Decoder(ExitRecord)
_last_word = msgspec.json.Decoder(Word)


class AttemptFiles:
    """The files of all attempts below `jobs_dir`, which is made. `former` are jobs' directories of a state
    directory from before it was copied or moved, in which shims from then still work. Raises OSError."""

    def __init__(self, jobs_dir: Path, former: Sequence[Path] = ()) -> None:
        self.jobs_dir = jobs_dir
        self._former = former
        make_directory(jobs_dir, 0o750)
        self._standby = jobs_dir / layout.STANDBY_DIR
        with contextlib.suppress(OSError):  # a full disk: it is made when there is room
            make_directory(self._standby, 0o750)

    # -- before GO ---------------------------------------------------------------------------------

    def standby(self, attempt_id: str) -> Path:
        """Return the directory of an attempt until its GO."""
        return self._standby / attempt_id

    def standby_ids(self) -> set[str]:
        """Return the ids of the attempts that have a standby directory."""
        return {path.name for path in self._standby.iterdir()} if self._standby.is_dir() else set()

    def make_standby(self, attempt_id: str, submitter: Account | None = None) -> Path:
        """Make the standby directory of a new attempt; with a `submitter`, in it one that is that account's.
        Raises OSError."""
        path = self.standby(attempt_id)
        path.mkdir(mode=0o750, parents=True)
        if submitter is not None:
            own_directory.make(path, submitter)
        return path

    def leave_script(
        self, attempt_id: str, name: str, content: bytes, submitter: Account | None = None
    ) -> None:
        """Write the script that a new attempt runs, for its user alone. Raises OSError."""
        directory = self.standby(attempt_id) / layout.SCRIPT_DIR
        directory.mkdir(mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(directory / name, flags, 0o700), "wb") as file:
            file.write(content)
            if submitter is not None:
                directory.chmod(0o711)
                os.fchown(file.fileno(), submitter.uid, submitter.gid)

    def remove_standby(self, attempt_id: str) -> None:
        """Remove what an attempt without GO has left."""
        shutil.rmtree(self.standby(attempt_id), ignore_errors=True)

    def standby_identity(self, attempt_id: str) -> Identity | None:
        """Return the identity of a shim at its gate; None when it never wrote it down."""
        try:
            found = json.loads(nofollow.read_file(self.standby(attempt_id) / layout.IDENTITY, RECORD_BYTES))
            return Identity(boot_id=found["boot_id"], pid=found["pid"], start_ticks=found["start_ticks"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def shim_errors(self, attempt_id: str) -> str:
        """Return the end of what the shim of an attempt without GO has written to its standard error."""
        try:
            data = nofollow.read_file(self.standby(attempt_id) / layout.SHIM_LOG, RECORD_BYTES)
        except OSError:
            return ""
        return data.decode("utf-8", "replace")[-SHIM_LOG_CHARACTERS:].strip()

    def probe(self) -> str:
        """Try what a start needs, a directory and a page on disk: the error, or an empty string."""
        probe = self.jobs_dir / layout.PROBE_DIR
        try:
            with contextlib.suppress(FileExistsError):
                probe.mkdir(mode=0o700)
            fd = os.open(probe / "page", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, bytes(PAGE_BYTES))
                os.fsync(fd)
            finally:
                os.close(fd)
                (probe / "page").unlink()
            probe.rmdir()
        except OSError as error:
            return str(error)
        return ""

    # -- after GO ----------------------------------------------------------------------------------

    def place(self, job_id: int, number: int) -> Path:
        """Return the directory of an attempt from its GO on."""
        return self.jobs_dir / str(job_id) / str(number)

    def of(self, attempt: Attempt) -> Path:
        """Return the directory of a started attempt."""
        return self.place(attempt.job_id, attempt.number)

    def claim_of(self, job_id: int, number: int, attempt_id: str) -> dict[str, Any] | None:
        """Return the claim that this attempt was told to start with; None when the directory is not its
        own."""
        for jobs_dir in (self.jobs_dir, *self._former):
            try:
                file = jobs_dir / str(job_id) / str(number) / layout.IDENTITY
                found = json.loads(nofollow.read_file(file, RECORD_BYTES))
                if found["attempt_id"] == attempt_id:
                    return dict(found["claim"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def remove_place(self, job_id: int, number: int) -> None:
        """Remove what a power failure has left of an attempt's directory."""
        shutil.rmtree(self.place(job_id, number), ignore_errors=True)

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        """Write the current values of the job's knobs for a live attempt. Best effort."""
        for directory in self._read_by_shim(attempt):
            with contextlib.suppress(OSError):
                knobs.leave(directory, job)

    def request_stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Write the request to stop an attempt, durably. Raises OSError."""
        request = json.dumps({"attempt_id": attempt.id, "reason": reason, "grace_s": grace_s})
        for directory in self._read_by_shim(attempt):
            with nofollow.directory(directory) as fd:
                write_durably(fd, layout.STOP, request)
            with contextlib.suppress(OSError):  # for the job alone, which gets its signal in any case
                own_directory.leave_copy(directory, layout.STOP, request)

    def _read_by_shim(self, attempt: Attempt) -> list[Path]:
        """Return the directories in which a live attempt may look for its files: its own; of a copy the
        former ones too, and where these are gone, the newest of them, which is made again. Raises OSError."""
        own = self.of(attempt)
        if not self._former or is_held(own):
            return [own]
        former = [jobs_dir / str(attempt.job_id) / str(attempt.number) for jobs_dir in self._former]
        there = [path for path in former if self._attempt_in(path) == attempt.id]
        if not there:
            former[0].mkdir(mode=0o750, parents=True, exist_ok=True)
            there = [former[0]]
        return [own, *there]

    @staticmethod
    def _attempt_in(directory: Path) -> str | None:
        """Return the id of the attempt whose shim wrote to a directory."""
        try:
            return str(
                json.loads(nofollow.read_file(directory / layout.IDENTITY, RECORD_BYTES))["attempt_id"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # -- after the end -----------------------------------------------------------------------------

    def exit_record(self, attempt: Attempt) -> ExitRecord | None:
        """Return the exit record of an attempt, also of one that never had its GO; None when there is none,
        or none of this attempt. Raises OSError when it cannot be read now."""
        found = self._find_record(attempt)
        return found[1] if found is not None else None

    def has_ended(self, attempt: Attempt) -> bool:
        """Return True if the attempt has left its exit record. Raises OSError when that cannot be found
        out."""
        return self._find_record(attempt) is not None

    def _find_record(self, attempt: Attempt) -> tuple[Path, ExitRecord] | None:
        """Return the exit record of an attempt and the directory that it is in. Raises OSError."""
        for jobs_dir in (self.jobs_dir, *self._former):
            own = jobs_dir / str(attempt.job_id) / str(attempt.number)
            for directory in (own, jobs_dir / layout.STANDBY_DIR / attempt.id):
                try:
                    data = nofollow.read_file(directory / layout.EXIT, RECORD_BYTES)
                except OSError as error:
                    if error.errno not in nofollow.ABSENT:
                        raise
                    continue
                if (record := decode_exit_record(data, attempt.id)) is not None:
                    return directory, record
                if directory == own:
                    break  # a record, though not of this attempt
        return None

    def bring_home(self, attempt: Attempt) -> None:
        """Copy what an ended attempt has left in a former directory into its own. Raises OSError."""
        found = self._find_record(attempt) if self._former else None
        own = self.of(attempt)
        if found is None or found[0].parent.parent == self.jobs_dir:
            return
        with contextlib.suppress(FileExistsError):
            own.mkdir(mode=0o750, parents=True)
        with nofollow.directory(found[0]) as source, nofollow.directory(own) as target:
            for name in sorted(os.listdir(source), key=lambda name: name == layout.EXIT):  # noqa: PTH208
                if name in LEFT or _SEGMENT.match(name):
                    _copy(name, source, target)
                elif name == layout.OWN_DIR:
                    _copy_own(source, target)
            os.fsync(target)

    def log_tail(self, attempt: Attempt) -> tuple[str, float | None]:
        """Return the end of the output, and when it was last written (UTC seconds); empty and None where it
        cannot be read."""
        try:
            data, written_at = JobLog(self.of(attempt)).end(LOG_TAIL_BYTES)
        except OSError:
            return "", None
        return data.decode("utf-8", "replace"), written_at

    def last_word(self, attempt: Attempt) -> Word | None:
        """Return why the program says it ended (:mod:`leptond.job`), if it does."""
        data = self._beginning(attempt, layout.LAST_WORD)
        try:
            word = _last_word.decode(data) if data is not None else None
        except msgspec.DecodeError:
            return None
        return word if word is not None and word.attempt_id == attempt.id else None

    def error_file(self, attempt: Attempt) -> str | None:
        """Return the exception that ended a worker, as torchrun's workers write it, if there is one."""
        data = self._beginning(attempt, layout.ERROR)
        return data.decode("utf-8", "replace") if data is not None else None

    def _beginning(self, attempt: Attempt, name: str) -> bytes | None:
        return own_directory.read(self.of(attempt), name, LOG_TAIL_BYTES)


def _copy_own(source: int, target: int) -> None:
    """Copy what a job has left in the directory of its own account. Raises OSError."""
    own = own_directory.open_in(source)
    if own is None:
        return
    try:
        for name in (layout.LAST_WORD, layout.ERROR):
            _copy(name, own, target)
    finally:
        os.close(own)


def _copy(name: str, source: int, target: int) -> None:
    """Copy a regular file of one directory into another, in place of what stands there. Raises OSError."""
    try:
        file = nofollow.open_regular(name, source, linked=True)
    except OSError as error:
        if error.errno in nofollow.ABSENT:
            return
        raise
    aside = f".{name}.tmp"
    with os.fdopen(file, "rb") as data:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(aside, flags, 0o640, dir_fd=target), "wb") as copy:
            shutil.copyfileobj(data, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    os.rename(aside, name, src_dir_fd=target, dst_dir_fd=target)


def decode_exit_record(data: bytes | str, attempt_id: str) -> ExitRecord | None:
    """Return the exit record in `data`; None when it is none, or not that of this attempt."""
    try:
        record = _exit_record.decode(data)
    except msgspec.DecodeError:
        return None
    return record if record.attempt_id == attempt_id else None

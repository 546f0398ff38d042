"""The copy of one job's output: a link to it while an attempt runs, a file of its own afterwards.

Nothing is overwritten unseen. What stands at the path is looked at by its descriptor: a regular file of this
user is appended to, or truncated where the job says so; anything else (a device, a FIFO, a link, a file of
somebody else) is left alone, and so is everything below the state directory. Which file the job has made
itself is written down in its directory."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from leptond.attempt_files import layout
from leptond.attempt_files.output_log import JobLog
from leptond.base import nofollow
from leptond.base.accounts import Account, acting_as, acting_as_self
from leptond.base.durable import write_whole

CHUNK = 1 << 20
NOTE_BYTES = 4096


class OutputRefused(Exception):
    """Nothing may be written at the path of a copy; the text says why."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The file that a job's copy is in (``copy.json`` in the job's directory). `last`: the newest attempt
    whose output is in it; `whole`: there is nothing else in it, `end` bytes, last written at `mtime_ns`.
    `since`: where the output of the attempt after `last` begins, which may be there in part (None: not
    begun)."""

    path: str
    device: int
    inode: int
    last: int
    whole: bool
    end: int
    mtime_ns: int = 0
    since: int | None = None


def why_not(path: Path, state_dir: Path, user: str) -> str | None:
    """Return why no copy can be written at `path`, as far as that is known now, or None. Directories that are
    missing may come later."""
    try:
        with _place(path, state_dir, user, make=False) as (fd, name):
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                target = os.readlink(name, dir_fd=fd)
                return None if _is_ours(target, state_dir / layout.JOBS_DIR) else _LINK
            return _why_not(seen, _uids(user))
    except OutputRefused as refusal:
        return str(refusal)
    except OSError:
        return None


def link(
    path: Path,
    directory: Path,
    attempt: int,
    *,
    truncate: bool,
    user: str,
    account: Account | None = None,
    umask: int | None = None,
) -> None:
    """Make `path` a link to the output of a running attempt of the job in `directory`, if nothing stands
    there that is to be kept: then the output comes when the attempt has ended. All that happens at `path`
    happens with the rights of `account` (None: the daemon's own), and with this `umask` (None: that of the
    process). Raises OSError, OutputRefused."""
    jobs_dir = directory.parent
    with acting_as(account), _place(path, jobs_dir.parent, user, umask=umask) as (fd, name):
        seen = _look(fd, name, jobs_dir, _uids(user))
        if seen is not None and not stat.S_ISLNK(seen.st_mode):
            note = _read_note(directory, path, seen)
            # the time too: a number of an inode is given again
            own = (
                note is not None
                and note.whole
                and (note.end, note.mtime_ns) == (seen.st_size, seen.st_mtime_ns)
            )
            if not own and not truncate:
                return
        target = directory / str(attempt) / layout.OUTPUT
        if seen is None:
            os.symlink(target, name, dir_fd=fd)
            return
        aside = _aside(fd, name)
        os.symlink(target, aside, dir_fd=fd)
        os.rename(aside, name, src_dir_fd=fd, dst_dir_fd=fd)


def write(
    path: Path,
    directory: Path,
    last: int,
    *,
    truncate: bool,
    user: str,
    account: Account | None = None,
    umask: int | None = None,
) -> None:
    """Write what the attempts of the job in `directory`, up to `last`, have printed and `path` does not hold
    yet. `account` and `umask` as for :func:`link`. Raises OSError, OutputRefused."""
    jobs_dir = directory.parent
    with acting_as(account), _place(path, jobs_dir.parent, user, umask=umask) as (fd, name):
        seen = _look(fd, name, jobs_dir, _uids(user))
        if seen is None or stat.S_ISLNK(seen.st_mode):
            _write_new(fd, name, path, directory, last, replace=seen is not None, umask=umask)
        else:
            _write_on(fd, name, seen, path, directory, last, truncate=truncate)


def _write_new(
    fd: int, name: str, path: Path, directory: Path, last: int, *, replace: bool, umask: int | None
) -> None:
    """Put a file with the output of all attempts where nothing stands, or (`replace`) a link of ours: whole,
    or not at all. Raises OSError; FileExistsError where something else has come there meanwhile."""
    aside = _aside(fd, name)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(aside, flags, 0o644, dir_fd=fd), "wb") as file:
            if umask is not None:
                os.fchmod(file.fileno(), 0o666 & ~umask)
            for number in range(1, last + 1):
                _append(file.fileno(), JobLog(directory / str(number)))
            left = os.fstat(file.fileno())
        _write_note(directory, _note(path, left, last=last, whole=True))
        if not replace:
            try:
                os.link(aside, name, src_dir_fd=fd, dst_dir_fd=fd)
            except PermissionError:  # a file system without hard links
                pass
            else:
                os.unlink(aside, dir_fd=fd)
                return
        os.rename(aside, name, src_dir_fd=fd, dst_dir_fd=fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=fd)
        raise


def _write_on(
    fd: int,
    name: str,
    seen: os.stat_result,
    path: Path,
    directory: Path,
    last: int,
    *,
    truncate: bool,
) -> None:
    """Write the output that is not there yet to the end of the file that was `seen`. Raises OSError,
    OutputRefused."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=fd), "wb") as file:
        opened = os.fstat(file.fileno())
        if not os.path.samestat(seen, opened):
            raise OutputRefused("it was exchanged for another file just now")
        note = _read_note(directory, path, opened)
        if note is None:
            note = _note(path, opened, last=0, whole=truncate)
            if truncate:
                file.truncate(0)
        elif note.since is not None:  # a daemon was killed while it wrote
            file.truncate(min(note.since, opened.st_size))
        size = os.fstat(file.fileno()).st_size
        _write_note(directory, msgspec.structs.replace(note, since=size))
        file.seek(size)
        for number in range(note.last + 1, last + 1):
            _append(file.fileno(), JobLog(directory / str(number)))
        left = os.fstat(file.fileno())
    whole = note.whole and (note.last == 0 or note.since is not None or note.end == size)
    _write_note(directory, _note(path, left, last=max(last, note.last), whole=whole))


def _note(path: Path, seen: os.stat_result, *, last: int, whole: bool) -> Note:
    return Note(
        path=str(path),
        device=seen.st_dev,
        inode=seen.st_ino,
        last=last,
        whole=whole,
        end=seen.st_size,
        mtime_ns=seen.st_mtime_ns,
    )


def _aside(fd: int, name: str) -> str:
    """Return the name for what is to take the place of `name`; nothing stands there."""
    aside = f".{name}.leptond"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside, dir_fd=fd)
    return aside


_LINK = "it is a link; name the file itself"


@contextlib.contextmanager
def _place(
    path: Path, state_dir: Path, user: str, *, make: bool = True, umask: int | None = None
) -> Iterator[tuple[int, str]]:
    """The directory of `path`, which is made with `make`, as a descriptor, and the name there. Raises
    OSError, OutputRefused."""
    try:
        fd = nofollow.open_trusted(
            path.parent, uids=_uids(user), not_below=state_dir.stat(), make=make, umask=umask
        )
    except nofollow.UntrustedPath as error:
        raise OutputRefused(str(error)) from None
    try:
        yield fd, path.name
    finally:
        os.close(fd)


def _uids(user: str) -> frozenset[int]:
    """The users whose links and files are trusted: root, the daemon's own, and the job's."""
    found = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        found.add(pwd.getpwnam(user).pw_uid)
    return frozenset(found)


def _look(fd: int, name: str, jobs_dir: Path, uids: frozenset[int]) -> os.stat_result | None:
    """Return what stands at `name`: a file that may be written to, or a link of leptond's own; None for
    nothing. Raises OutputRefused."""
    try:
        seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(seen.st_mode):
        if not _is_ours(os.readlink(name, dir_fd=fd), jobs_dir):
            raise OutputRefused(_LINK)
        return seen
    why = _why_not(seen, uids)
    if why is not None:
        raise OutputRefused(why)
    return seen


def _is_ours(target: str, jobs_dir: Path) -> bool:
    """True for a link to the output of an attempt."""
    return target.startswith(f"{jobs_dir}/") and target.endswith(f"/{layout.OUTPUT}")


def _why_not(seen: os.stat_result, uids: frozenset[int]) -> str | None:
    if not stat.S_ISREG(seen.st_mode):
        return f"it is a {_KINDS.get(stat.S_IFMT(seen.st_mode), 'special file')}, not a file"
    if seen.st_uid not in uids:
        return f"it belongs to somebody else (uid {seen.st_uid})"
    if seen.st_nlink > 1:
        return "it has a second name (a hard link)"
    return None


_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def _read_note(directory: Path, path: Path, seen: os.stat_result) -> Note | None:
    """Return the note of a job, if it is of the file at `path` that was `seen`."""
    try:
        with acting_as_self():
            data = nofollow.read_file(directory / layout.COPY, NOTE_BYTES, own=1)
        note = msgspec.json.decode(data, type=Note)
    except (OSError, msgspec.DecodeError):
        return None
    same = (note.path, note.device, note.inode) == (str(path), seen.st_dev, seen.st_ino)
    return note if same else None


def _write_note(directory: Path, note: Note) -> None:
    with acting_as_self(), nofollow.directory(directory, own=1) as fd:
        write_whole(fd, layout.COPY, json.dumps(msgspec.to_builtins(note)), sync=False)


def _append(fd: int, log: JobLog) -> None:
    offset = 0
    while True:
        with acting_as_self():
            data, offset, skipped = log.read(offset, CHUNK)
        if skipped:
            os.write(fd, f"[{skipped} bytes of output were not kept]\n".encode())
        if not data:
            break
        while data:
            data = data[os.write(fd, data) :]

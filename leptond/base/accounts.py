"""Accounts of this machine, and work on files with the rights of one of them.

:func:`acting_as` changes what the kernel checks for files (fsuid, fsgid, groups) for the calling thread
alone: the process stays what it is, so that no other process of the account may signal or trace it meanwhile.
Standard library alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
"""The system call by machine: the C library's own function changes all threads."""

CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_PTRACE": 19,
}
"""The capabilities of root that a daemon needs in order to run jobs as their submitters."""


class NoAccount(Exception):
    """There is no such account, or not as it was; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account: its user, its groups, and what its processes find in their environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    shell: str


def find(uid: int, name: str) -> Account:
    """Return the account `uid`, which must be called `name`. Raises NoAccount, and OSError where the
    machine's directory of accounts does not answer."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise NoAccount(f"there is no account {name} (uid {uid}) on this machine any more") from None
    if entry.pw_name != name:
        raise NoAccount(f"the uid {uid} of {name} belongs to the account {entry.pw_name} now")
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return Account(
        uid=uid,
        gid=entry.pw_gid,
        groups=groups,
        name=name,
        home=entry.pw_dir or "/",
        shell=entry.pw_shell or "/bin/sh",
    )


BELIEVED_S = 10.0
"""The time for which :func:`recent` believes what the system said of an account."""
MOST = 1024

_recent: dict[tuple[int, str], tuple[float, Account]] = {}


def recent(uid: int, name: str) -> Account:
    """Return the account as :func:`find` does, or as it did a moment ago. Raises NoAccount, OSError."""
    now = time.monotonic()
    at, known = _recent.get((uid, name), (0.0, None))
    if known is not None and now < at + BELIEVED_S:
        return known
    try:
        found = find(uid, name)
    except NoAccount:
        _recent.pop((uid, name), None)
        raise
    if len(_recent) >= MOST:
        _recent.clear()
    _recent[uid, name] = (now, found)
    return found


def missing_capabilities() -> list[str]:
    """Return which of :data:`CAPABILITIES` this process lacks. Raises OSError."""
    text = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:"))
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


_libc = ctypes.CDLL(None, use_errno=True)
_UNCHANGED = ctypes.c_uint(-1)
_OWN_GROUPS = tuple(os.getgroups())


@contextlib.contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Look at files, open, make and remove them as `account` in this block, and in this thread alone; None
    changes nothing. Nothing may be awaited in it. Only root may do this: its rights over all files are off
    meanwhile. Raises OSError where it is not possible, and then the block does not begin."""
    if account is None:
        yield
        return
    before = _libc.setfsuid(_UNCHANGED), _libc.setfsgid(_UNCHANGED), os.getgroups()
    try:
        _act(account.uid, account.gid, account.groups)
        yield
    finally:
        try:
            _act(*before)
        except OSError:
            # a thread with the rights of another is no place to go on from
            os.abort()


def acting_as_self() -> contextlib.AbstractContextManager[None]:
    """Act as this process's own user again, in a block within one of :func:`acting_as`."""
    if _libc.setfsuid(_UNCHANGED) == os.geteuid():
        return acting_as(None)
    own = Account(uid=os.geteuid(), gid=os.getegid(), groups=_OWN_GROUPS, name="", home="/", shell="/bin/sh")
    return acting_as(own)


def acting_as_owner(seen: os.stat_result) -> contextlib.AbstractContextManager[None]:
    """Act as the owner of what was `seen`, with its group alone; as before where that is this process's own
    user."""
    if seen.st_uid == os.geteuid():
        return acting_as(None)
    groups = (seen.st_gid,)
    return acting_as(
        Account(uid=seen.st_uid, gid=seen.st_gid, groups=groups, name="", home="/", shell="/bin/sh")
    )


def _act(uid: int, gid: int, groups: tuple[int, ...] | list[int]) -> None:
    """Take on an identity towards files. Root comes back first and leaves last: it alone may change the
    groups."""
    number = SETGROUPS.get(os.uname().machine)
    if number is None:
        raise OSError(f"the rights of one thread cannot be changed on {os.uname().machine}")
    if uid == os.geteuid():
        _set_fs("setfsuid", uid)
    listed = (ctypes.c_uint * len(groups))(*groups)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_size_t(len(groups)), listed) != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"the groups cannot be changed: {os.strerror(failure)}")
    _set_fs("setfsgid", gid)
    _set_fs("setfsuid", uid)


def _set_fs(call: str, value: int) -> None:
    """Set one of the two ids. The calls report no error: they are asked again."""
    function = getattr(_libc, call)
    function(ctypes.c_uint(value))
    if function(_UNCHANGED) & 0xFFFFFFFF != value:
        raise PermissionError(1, f"{call} to {value} is not permitted to thread {threading.get_ident()}")

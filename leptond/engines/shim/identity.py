"""The change of the command's process into its submitter, before it becomes the command. Whatever fails here
ends the process: no command runs with rights that its submitter does not have."""

from __future__ import annotations

import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
"""The system call by machine."""
KEYCTL_JOIN_SESSION_KEYRING = 1
CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "ppc64le": 184, "s390x": 185}
CAPABILITY_VERSION_3 = 0x20080522


class CannotBecome(Exception):
    """The account is not, or not quite, what the process could become; the text says why."""


def become(account: dict[str, Any]) -> None:
    """Become the `account` of a launch description, for good: limits, groups, gid, uid, and the proof that
    there is no way back. The account is looked up anew: what was checked at the submit may be long ago.
    Raises CannotBecome, OSError."""
    groups = look_up(account)
    uid, gid = account["uid"], account["gid"]
    limit = account["max_processes"]
    if limit:
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    prctl = _prctl()
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if uid != 0:
        _drop_capabilities(prctl)
    if account["no_new_privileges"]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    _own_keyring()
    _verify(uid, gid, groups)


def look_up(account: dict[str, Any]) -> list[int]:
    """Return the groups that the `account` of a launch description has now. Raises CannotBecome where it is
    another one by now, and OSError."""
    import pwd  # only the processes of other accounts pay for it

    uid, gid, name = account["uid"], account["gid"], account["name"]
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise CannotBecome(f"there is no account {name} (uid {uid}) any more") from None
    if entry.pw_name != name:
        raise CannotBecome(f"the uid {uid} belongs to the account {entry.pw_name} now")
    if entry.pw_gid != gid:
        raise CannotBecome(f"the group of {name} was changed just now from {gid} to {entry.pw_gid}")
    return os.getgrouplist(name, gid)


def _verify(uid: int, gid: int, groups: list[int]) -> None:
    """Raise CannotBecome unless this process is this account in every respect, and can be nothing else."""
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise CannotBecome("the kernel did not take the user or the group")
    if set(os.getgroups()) - {gid} != set(groups) - {gid}:
        raise CannotBecome("the kernel did not take all of the groups")
    if uid == 0:
        return
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        pass
    else:
        raise CannotBecome("it could become root again")
    with open("/proc/self/status") as file:
        held = [line for line in file if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))]
    if any(int(line.split()[1], 16) for line in held):
        raise CannotBecome("it would keep capabilities of root")


def _prctl() -> Callable[[int, int], None]:
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).prctl

    def prctl(what: int, value: int) -> None:
        zero = ctypes.c_ulong(0)
        if call(what, ctypes.c_ulong(value), zero, zero, zero) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl {what} fails: {os.strerror(number)}")

    return prctl


def _drop_capabilities(prctl: Callable[[int, int], None]) -> None:
    """Empty the sets that a change of the user leaves as they were. Raises OSError."""
    import ctypes
    import struct

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    prctl(PR_SET_KEEPCAPS, 0)
    number = CAPSET.get(os.uname().machine)
    if number is None:
        return  # the check that follows finds what is left
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), header, bytes(24)) != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"capset fails: {os.strerror(failure)}")


def _own_keyring() -> None:
    """Leave the session keyring of the daemon, which jobs of all accounts would share. A kernel without
    keyrings has none to share."""
    import ctypes

    number = KEYCTL.get(os.uname().machine)
    if number is not None:
        join = ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING)
        ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), join, None)

"""Warm processes of submitters' own accounts: each account has its own, which runs as that account from its
first import on. The limits of number and memory count them together."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from leptond.base.accounts import Account
from leptond.base.durable import write_all
from leptond.config import EngineSettings
from leptond.engines import procs
from leptond.engines.launch import Submitter
from leptond.engines.shim_pool import BARE
from leptond.engines.spawning import DIRECT, Spawner
from leptond.engines.warm_pool import WarmPool
from leptond.engines.zygote_handle import ZygoteGone, ZygoteHandle

AS_ACCOUNT = Path(__file__).parent / "as_account.py"


class WarmAccounts:
    """The warm processes of all accounts."""

    def __init__(self, settings: EngineSettings, spawner: Spawner = DIRECT) -> None:
        self._settings = settings
        self._spawner = spawner
        self._pools: dict[tuple[Submitter, tuple[int, ...]], WarmPool] = {}
        self._used_at: dict[tuple[Submitter, tuple[int, ...]], float] = {}

    def choose(
        self,
        submitter: Submitter,
        account: Account,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        *,
        cold: bool,
    ) -> tuple[ZygoteHandle | None, dict[str, Any] | None, str]:
        """Return the warm process of an account, as :meth:`WarmPool.choose`. One with other groups than the
        account has now is not its own."""
        key = (submitter, tuple(sorted(account.groups)))
        pool = self._pools.get(key)
        if pool is None:
            become = json.dumps(msgspec.to_builtins(submitter))
            prefix = (sys.executable, *BARE, str(AS_ACCOUNT), become)
            pool = self._pools[key] = WarmPool(self._settings, None, prefix=prefix, spawner=self._spawner)
        self._used_at[key] = time.monotonic()
        self._trim(key)
        zygote, command, choice = pool.choose(argv, env, cwd, cold=cold)
        return zygote, command, choice.mode

    def note(self, zygote: ZygoteHandle, start: str) -> None:
        """Take in how a job that was forked from this zygote started, as :meth:`WarmPool.note`."""
        for pool in self._pools.values():
            pool.note(zygote, start)

    def _trim(self, asked: tuple[Submitter, tuple[int, ...]]) -> None:
        """End the processes of the accounts that have not used theirs for longest, where all together are too
        many or too large, or have none any more; but not those of who asks."""
        kept = {key: pool.processes() for key, pool in self._pools.items()}
        others = sorted((key for key in kept if key != asked), key=self._used_at.__getitem__)
        for key in others:
            left = [one for processes in kept.values() for one in processes]
            coming = 0 if kept[asked] else 1
            size_bytes = sum(one.size_bytes for one in left)
            fits = (
                len(left) + coming <= self._settings.warm_max and size_bytes <= self._settings.warm_max_bytes
            )
            if kept[key] and fits:
                continue
            if not kept[key] and self._pools[key].is_making:
                continue
            self._pools.pop(key).close()
            del kept[key], self._used_at[key]

    def close(self) -> None:
        """End them all; the processes forked from them go on."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """A process forked from a warm one, as the shim is told of it (:mod:`leptond.engines.shim.relayed`):
    where it finds its end of their connection, and the groups that the process has."""

    daemon_pid: int
    daemon_ticks: int
    fd: int
    pid: int
    ticks: int
    groups: tuple[int, ...]


async def fork_relay(
    zygote: ZygoteHandle, attempt_id: str, account: Account, path: str, close: contextlib.ExitStack
) -> Relay | None:
    """Fork a relay for an attempt; None where that fails. `close` closes the daemon's copy of the shim's end
    of the connection: when the shim is ready, or is none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    close.callback(ours.close)
    with theirs, contextlib.ExitStack() as at_once:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        at_once.callback(os.close, null)
        launch = os.memfd_create("leptond-launch", os.MFD_CLOEXEC)
        at_once.callback(os.close, launch)
        write_all(launch, b'{"relays": true}')
        env = {"PATH": path, "LEPTOND_SHIM": attempt_id}
        try:
            process = await zygote.fork(env, [theirs.fileno(), launch, null])
        except (OSError, ZygoteGone):
            return None
    os.close(process.pidfd)
    return Relay(
        daemon_pid=os.getpid(),
        daemon_ticks=procs.start_ticks(os.getpid()) or 0,
        fd=ours.fileno(),
        pid=process.pid,
        ticks=process.start_ticks,
        groups=account.groups,
    )

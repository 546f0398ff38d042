"""Ranks as forks of this process: what torch costs to import is paid once."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # so that no fork has to import it for its first optimizer, nor the others
import torch.distributed.fsdp
import torch.distributed.pipelining
import torch.distributed.tensor.parallel

PATIENCE_S = 150.0


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forked(
    ranks: int,
    work: Callable[[int], Any],
    directory: Path,
    meanwhile: Callable[[list[int]], None] = lambda pids: None,
) -> tuple[list[int], list[Any]]:
    """Runs ``work(rank)`` in so many processes that can find each other: their exit codes (negative: the
    signal that ended one), and what they returned (None for one that did not). `meanwhile` is told their
    pids when they are there."""
    directory.mkdir(parents=True, exist_ok=True)
    env = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for rank in range(ranks):
        (directory / f"found-{rank}").unlink(missing_ok=True)
        (directory / f"error-{rank}").unlink(missing_ok=True)
    pids = [_fork(rank, env, work, directory) for rank in range(ranks)]
    codes: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE_S
    try:
        meanwhile(pids)
        while len(codes) < ranks and time.monotonic() < deadline:
            for pid in set(pids) - codes.keys():
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
    finally:
        for pid in set(pids) - codes.keys():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert len(codes) == ranks, f"these ranks did not end: {[pid not in codes for pid in pids]}"
    found = [directory / f"found-{rank}" for rank in range(ranks)]
    return (
        [codes[pid] for pid in pids],
        [json.loads(file.read_text()) if file.exists() else None for file in found],
    )


def errors(directory: Path) -> str:
    """What the last ranks in `directory` ended with."""
    return "\n".join(file.read_text()[-3000:] for file in sorted(directory.glob("error-*")))


def _fork(rank: int, env: dict[str, str], work: Callable[[int], Any], directory: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        gc.freeze()  # what the fork was given is no garbage, and to look through it copies its pages
        os.environ.update(env, RANK=str(rank), LOCAL_RANK=str(rank))
        torch.set_num_threads(1)
        (directory / f"found-{rank}").write_text(json.dumps(work(rank)))
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        (directory / f"error-{rank}").write_text(traceback.format_exc())
    finally:
        os._exit(code)

"""Several tasks of submitit on this machine (``tasks_per_node``), as srun starts them on a cluster:
``python -m leptond.integrations.submitit_tasks [--merge] N FOLDER COMMAND...``.

Each task learns its rank from its environment and has its own files of output. A task that fails does not end
the others. A task that wants to be queued again (exit code 75) speaks for all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from submitit.core.utils import JobPaths

from leptond.integrations.submitit import RANK, LeptondJobEnvironment
from leptond.job import EXIT_RESUME

KILL_AFTER_S = 5.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGCONT)


def main(words: list[str]) -> int:
    """Start the tasks and wait for them; return the exit code of the job."""
    merge = words[:1] == ["--merge"]
    count, folder, *command = words[1:] if merge else words
    job_id = LeptondJobEnvironment().job_id
    tasks: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: Any) -> None:
        if not tasks:
            early.append(number)
        for task in tasks:
            task.send_signal(number)

    for number in (*FORWARDED, LeptondJobEnvironment._usr_sig()):
        signal.signal(number, forward)
    tasks += [
        _start(command, JobPaths(folder, job_id, rank), rank, merge=merge) for rank in range(int(count))
    ]
    for number in early:
        forward(number, None)
    return _wait(tasks)


def _start(command: list[str], paths: JobPaths, rank: int, *, merge: bool) -> subprocess.Popen[bytes]:
    env = {**os.environ, RANK: str(rank)}
    Path(paths.folder).mkdir(parents=True, exist_ok=True)
    with paths.stdout.open("ab") as out, (paths.stdout if merge else paths.stderr).open("ab") as err:
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def _wait(tasks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for the tasks; return 75 if one of them ended with it, else the first exit code that is not 0."""
    first = 0
    left = {task.pid: task for task in tasks}
    while left:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None  # only with WNOHANG
        task = left.pop(ended.si_pid, None)
        if task is None:
            os.waitpid(ended.si_pid, 0)
            continue
        code = task.wait()
        code = 128 - code if code < 0 else code
        if code == EXIT_RESUME:
            _end(list(left.values()))
            return code
        first = first or code
    return first


def _end(tasks: list[subprocess.Popen[bytes]]) -> None:
    """End the tasks: SIGINT, by which submitit's tasks end without a result, then SIGKILL."""
    for task in tasks:
        task.send_signal(signal.SIGINT)
    for task in tasks:
        try:
            task.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            task.kill()
            task.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

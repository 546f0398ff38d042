"""A sweep by submitit's local executor: `python by_submitit.py SLOTS STEPS RESULTS`. The executor starts what
it is given at once, so the trials are given to it as slots get free. Reads them from standard input, and
prints when it began."""

from __future__ import annotations

import sys
import time
from pathlib import Path

POLL_S = 0.02


def main() -> None:
    """Submit the trials."""
    import submitit

    slots, steps, results = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    trials = [["--steps", steps, "--results", results, *line.split()] for line in sys.stdin]
    executor = submitit.AutoExecutor(folder=Path(results).parent / "submitit", cluster="local")
    executor.update_parameters(timeout_min=60)
    print(time.time_ns(), flush=True)
    running: list[submitit.Job[None]] = []
    while trials or running:
        for job in running:
            if job.done():
                job.result()  # raises what the trial raised
        running = [job for job in running if not job.done()]
        while trials and len(running) < slots:
            running.append(executor.submit(_trial, str(Path(__file__).parent), trials.pop(0)))
        time.sleep(POLL_S)


def _trial(directory: str, words: list[str]) -> None:
    sys.path.insert(0, directory)
    import trial  # in the job: what submits has no torch

    trial.main(words)


if __name__ == "__main__":
    main()

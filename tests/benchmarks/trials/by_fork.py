"""The floor of a sweep: `python by_fork.py SLOTS STEPS RESULTS` forks each trial from a process that has
imported and warmed up everything, so many at a time. Reads the trials from standard input, and prints when it
began (nanoseconds)."""

from __future__ import annotations

import os
import sys
import tempfile
import time

import trial


def main() -> None:
    """Fork the trials."""
    slots, steps, results = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as aside:
        trial.main(["--steps", "1", "--results", aside, "--lr", "0.1", "--width", "8"])
    print(time.time_ns(), flush=True)
    running = 0
    for line in sys.stdin:
        if running == slots:
            os.wait()
            running -= 1
        if os.fork() == 0:
            trial.main(["--steps", str(steps), "--results", results, *line.split()])
            os._exit(0)
        running += 1
    for _ in range(running):
        os.wait()


if __name__ == "__main__":
    main()

"""A job that testifies: it appends what it does to a file, synced, so that the truth does not come from
leptond. Run as ``python witness.py FILE HOLD_S EXIT_CODE [trap] [later]``: `trap` takes no SIGTERM for an
answer, `later` leaves with 75 (try again later) the first time.

Lines are JSON: ``{"what": "start" | "end", "attempt_id", "job_id", "attempt", "pid", "gpus", "at", "code"}``,
`at` in seconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def testify(path: str, what: str, **more: object) -> None:
    """One line, on disk before it counts."""
    line = {
        "what": what,
        "attempt_id": os.environ["LEPTOND_ATTEMPT_ID"],
        "job_id": int(os.environ["LEPTOND_JOB_ID"]),
        "attempt": int(os.environ["LEPTOND_ATTEMPT"]),
        "gpus": [uuid for uuid in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if uuid],
        "pid": os.getpid(),
        "at": time.clock_gettime(time.CLOCK_BOOTTIME),
        **more,
    }
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, (json.dumps(line) + "\n").encode())
    os.fsync(fd)
    os.close(fd)


def main() -> None:
    path, hold_s, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    if "later" in sys.argv and os.environ["LEPTOND_ATTEMPT"] == "1":
        code = 75
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    testify(path, "start")
    until = time.monotonic() + hold_s
    while time.monotonic() < until and not (signals and "trap" not in sys.argv):
        time.sleep(0.01)
    testify(path, "end", code=code, signals=signals)
    os._exit(code)


if __name__ == "__main__":
    main()

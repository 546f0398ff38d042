"""Promise 35: output without measure stays within its budget, holds nobody up, and its end is kept."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.support.daemon import Daemon

FLOODS = {
    "yes": "data = b'y\\n' * 32768\nwhile going(): wrote += os.write(1, data)",
    "one line": "data = b'x' * 65536\nwhile going(): wrote += os.write(1, data)",
    "progress bar": """
step = 0
while going():
    wrote += os.write(1, b"\\r%6d/100000 [" % step + b"=" * (step % 60) + b"]")
    step += 1
""",
    "binary": "data = os.urandom(65536)\nwhile going(): wrote += os.write(2, data)",
    "lines": """
step = 0
while going():
    wrote += os.write(1, b"".join(b"step %d loss 0.12345\\n" % (step + i) for i in range(100)))
    step += 100
""",
}

PROGRAM = """
import os, sys, time
seconds, size = float(sys.argv[1]), float(sys.argv[2])
begin, wrote, worst = time.monotonic(), 0, 0.0
def going():
    return time.monotonic() - begin < seconds and wrote < size
{body}
last = b"\\nthe end, %d bytes\\n" % wrote
wrote += os.write(1, last)
with open(sys.argv[3], "w") as file:
    file.write(f"{{wrote}} {{time.monotonic() - begin}}")
"""

LIMIT = 1 << 20
CHUNK = 256 * 1024


@campaign("P35", title="Floods of output", short=1, full=10)
def floods(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial floods with eight jobs at once; the figures count them."""
    return run_trials(lambda dice, place: flood(dice, place, seconds=20, size=1 << 30), trials, seed, workdir)


def flood(dice: random.Random, place: Path, *, seconds: float, size: int, count: int = 8) -> Found:
    """`count` jobs that write for `seconds`, or `size` bytes each, whichever comes first."""
    daemon = Daemon(
        place / "s", "--simulate-gpus", "1", executed=True, env={"LEPTOND_QUEUE__CPU_SLOTS": str(count)}
    )
    daemon.start()
    total = 0
    try:
        jobs = {}
        for index in range(count):
            kind = list(FLOODS)[index % len(FLOODS)]
            code = PROGRAM.format(body=FLOODS[kind])
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                code,
                str(seconds),
                str(size),
                str(place / f"w{index}"),
            ]
            jobs[index] = daemon.submit(*command, log_max_bytes=LIMIT, name=kind.replace(" ", "-"))
        assert daemon.process is not None
        for index, job in jobs.items():
            assert daemon.finished(job)["state"] == "succeeded"
            wrote, took_s = (place / f"w{index}").read_text().split()
            assert float(took_s) < 10 * seconds + 10, "it was held up"
            total += int(wrote)
            attempt = daemon.job(job)["attempts"][0]
            directory = daemon.state_dir / "jobs" / str(job) / "1"
            stored = sum(file.stat().st_size for file in directory.glob("output*.log"))
            assert stored <= LIMIT + CHUNK
            assert attempt["log_bytes"] == int(wrote)
            assert attempt["log_dropped_bytes"] == int(wrote) - stored
            tail = daemon.get(f"/v1/jobs/{job}/log?tail=1").data
            assert tail.startswith(b"the end, "), tail[-200:]
            whole = daemon.get(f"/v1/jobs/{job}/log").data
            if attempt["log_dropped_bytes"]:
                assert b"bytes of output were not kept]" in whole
        cpu_s = _cpu_s(daemon.process.pid)
    finally:
        daemon.close()
    return Found(count=count, figures={"MiB": total / (1 << 20), "daemon_cpu_s": cpu_s})


def _cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    import os

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""The OpenAPI document against the daemon that serves it, by schemathesis: all of its checks in all of its
phases.

    python -m tests.fuzz.openapi [--examples N] [--seed N]

Three checks know that a request may fit its schema and be refused all the same: 404 for a job that is not
there, 409 for its state, 422 for what only this machine can say (99 GPUs, a queue that is not there), 403 and
507."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.fuzz.http import Target
from tests.support.daemon import Daemon

_REFUSED = ["400", "403", "404", "405", "409", "413", "415", "416", "421", "422", "429"]
CONFIG = f"""
[checks]
positive_data_acceptance.expected-statuses = {["2xx", *_REFUSED, "503", "507"]}
negative_data_rejection.expected-statuses = {[*_REFUSED, "401"]}
missing_required_header.expected-statuses = {[*_REFUSED, "401"]}
"""

START = """
import runpy, sys
from leptond.api.http import guard
guard.MAX_BAD_TOKENS = 10**6  # the check of wrong tokens wants 401 each time, not 429 after ten
from leptond.api.routes import arrays, jobs
async def at_once(call, future, until):
    return False
jobs.wait_until = arrays.wait_until = at_once  # a wait of a minute for a job that is held says nothing new
sys.argv[0] = "leptond"
runpy.run_module("leptond", run_name="__main__", alter_sys=True)
"""


class _Patient(Daemon):
    """A daemon that takes any number of submits and of wrong tokens."""

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", START, "run", "--state-dir", str(self.state_dir), *self.options],
            env={**self.env, "LEPTOND_HTTP__SUBMITS_PER_S": "1000000"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )


def check(
    root: Path, *, examples: int, seed: int, phases: str, max_time_s: int | None = None
) -> tuple[int, str]:
    """Run schemathesis against a daemon of its own in `root`. Returns its exit status and what it printed."""
    target = Target(root, _Patient)
    try:
        token = (target.daemon.state_dir / "token").read_text().strip()
        (root / "schemathesis.toml").write_text(CONFIG)
        url = f"http://127.0.0.1:{target.port}"
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            "--config-file",
            str(root / "schemathesis.toml"),
            "run",
            f"{url}/v1/openapi.json",
            "--url",
            url,
            "-H",
            f"Authorization: Bearer {token}",
            "--checks",
            "all",
            "--phases",
            phases,
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
            "--request-timeout",
            "60",
            "--continue-on-failure",
            "--exclude-path",
            "/v1/jobs/{ref}/log/stream",  # it ends with the job: never, for one that is held
            "--no-color",
        ]
        if max_time_s is not None:
            command += ["--max-time", str(max_time_s)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
        assert target.daemon.get("/healthz").status == 200
        log = target.daemon.log.read_text()
        assert "Traceback" not in log and '"exception"' not in log, log[-4000:]  # noqa: PT018
    finally:
        target.daemon.close()
    return ran.returncode, ran.stdout + ran.stderr


def cases(printed: str) -> int:
    """The number of cases that schemathesis says it has made."""
    return int(found[1].replace(",", "")) if (found := re.search(r"([0-9,]+) generated", printed)) else 0


def main() -> None:
    """The campaign."""
    options = argparse.ArgumentParser(description="schemathesis against a real daemon")
    options.add_argument("--examples", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as root:
        code, printed = check(Path(root), examples=asked.examples, seed=asked.seed, phases=asked.phases)
    print(printed)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The README's commands are true."""

import os
import re
import subprocess
from pathlib import Path

from tests.support.daemon import Daemon

TOP = Path(__file__).parents[2]


def blocks(text: str) -> list[str]:
    """The shell blocks, in order."""
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_the_curl_examples_work_as_printed(tmp_path):
    text = (TOP / "README.md").read_text()
    (examples,) = (block for block in blocks(text) if "curl" in block)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "nvidia-smi").write_text("#!/bin/sh\necho a stand-in for the first job\n")
    (bin_dir / "nvidia-smi").chmod(0o755)
    path = f"{bin_dir}:{os.environ['PATH']}"
    daemon = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "1",
        "--socket",
        str(runtime / "leptond" / "leptond.sock"),
        env={"LEPTOND_JOBS__PATH": path},
    )
    daemon.socket = runtime / "leptond" / "leptond.sock"
    daemon.start()
    try:
        done = subprocess.run(
            ["bash", "-euc", examples.replace("curl ", "curl --fail-with-body ")],
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        daemon.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a stand-in for the first job" in done.stdout
    assert '"state":"succeeded"' in done.stdout
    assert "leptond_build_info" in done.stdout

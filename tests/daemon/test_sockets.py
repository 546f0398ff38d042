"""A daemon of a session: its runtime directory goes away with the last logout, and comes back."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.support.daemon import PYTHON, Daemon, UnixConnection, until


class OfSession(Daemon):
    """A daemon that finds its places by XDG_RUNTIME_DIR (``rt``) and XDG_STATE_HOME (``st``)."""

    def __init__(self, home: Path) -> None:
        self.runtime = home / "rt"
        env = {"XDG_RUNTIME_DIR": str(self.runtime), "XDG_STATE_HOME": str(home / "st")}
        super().__init__(home / "st" / "leptond", env={**env, "XDG_CONFIG_HOME": str(home / "config")})

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [PYTHON, "-m", "leptond", "run", "--simulate-gpus", "1"], env=self.env, stdout=log, stderr=log
        )


@pytest.fixture
def session(tmp_path):
    one = OfSession(tmp_path)
    one.runtime.mkdir()
    one.start()
    yield one
    one.close()


def answers(path: Path) -> bool:
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_a_runtime_directory_that_goes_away_takes_nothing_with_it(session, tmp_path):
    socket = session.runtime / "leptond" / "leptond.sock"
    assert answers(socket)
    status = [sys.executable, "-m", "leptond.cli", "status"]
    script = f"cd {tmp_path}; touch up; while [ ! -e go ]; do sleep 0.05; done; echo ::leptond step=5; {{}}"
    job = session.submit("sh", "-c", script.format(f"PYTHONPATH={Path.cwd()} {' '.join(status)}"))
    until((tmp_path / "up").exists, "it runs")
    shutil.rmtree(session.runtime)
    (tmp_path / "go").touch()
    done = session.finished(job)
    assert done["state"] == "succeeded", session.output(job)
    assert until(lambda: session.job(job)["progress"], "what it has reported")["step"] == 5
    shown = subprocess.run(status, env=session.env, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    session.runtime.mkdir()
    until(lambda: answers(socket), "it is made again")
    until((session.runtime / "leptond" / "leptond.jobs").exists, "and the other")

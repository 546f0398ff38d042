"""A leptond job for one test: what the frameworks' processes see of it."""

import json
import signal
import socket
import threading

import pytest

from leptond import job
from tests.support.daemon import until


class Job:
    """The daemon's end of a job's channel."""

    def __init__(self, directory, daemon):
        self.directory = directory
        self.checkpoints = directory / "checkpoints"
        self._daemon = daemon
        self.told = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while data := self._daemon.recv(65536):
            self.told.append(json.loads(data))

    def heard(self, **last):
        """The reports up to one that says `last`; then they begin anew."""

        def there():
            return any(all(one.get(name) == value for name, value in last.items()) for one in self.told)

        until(there, f"a report of {last}")
        told, self.told = self.told, []
        return told

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(b"", str(self.directory / "r"))
        self._reader.join()

    @property
    def word(self):
        """Why the job left."""
        return json.loads((self.directory / "word.json").read_text())["reason"]


@pytest.fixture
def as_a_job(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "r"))
        one = Job(tmp_path, daemon)
        one.checkpoints.mkdir()
        for name, value in {
            "LEPTOND_ATTEMPT_ID": "a" * 32,
            "LEPTOND_SOCKET": str(tmp_path / "r"),
            "LEPTOND_ATTEMPT_DIR": str(tmp_path),
            "LEPTOND_CHECKPOINT_DIR": str(one.checkpoints),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(job, "_channel", None)
        monkeypatch.setattr(job, "_catching", False)
        monkeypatch.setattr(job, "INTERVAL_S", 0.0)
        before = signal.getsignal(signal.SIGTERM)
        yield one
        signal.signal(signal.SIGTERM, before)
        job._term.clear()
        if job._channel is not None:
            job._channel.close()
        one.close()

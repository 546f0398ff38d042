"""What is known of the imports of each interpreter, on disk: a file an interpreter. Lost, it is found out
again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import structlog

from leptond.base import durable
from leptond.base.paths import make_directory
from leptond.core.warm_learning import Learned

log = structlog.get_logger("leptond.engine")

MOST_BYTES = 16 * 1024 * 1024
"""The largest file that is read."""


class WarmRecords:
    """The records below a directory, which is made when the first is written; without one, in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._known: dict[str, Learned] = {}

    def get(self, python: str) -> Learned:
        """Return what is known of an interpreter, by its path."""
        known = self._known.get(python)
        if known is None:
            directory = self._directory
            known = self._known[python] = (
                self._read(directory / _name(python)) if directory is not None else Learned()
            )
        return known

    @staticmethod
    def _read(path: Path) -> Learned:
        try:
            with path.open("rb") as file:
                return msgspec.json.decode(file.read(MOST_BYTES), type=Learned)
        except FileNotFoundError:
            return Learned()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("warm_record.unreadable", path=str(path), error=str(error))
            return Learned()

    def put(self, python: str, learned: Learned) -> None:
        """Take in and write down what is known now. Best effort: what is not on disk is found out again."""
        self._known[python] = learned
        if self._directory is None:
            return
        try:
            make_directory(self._directory, 0o700)
            text = msgspec.json.encode(learned).decode()
            durable.write_whole(str(self._directory), _name(python), text, sync=False)
        except OSError as error:
            log.warning("warm_record.unwritten", path=str(self._directory), error=str(error))


def _name(python: str) -> str:
    return f"{hashlib.sha256(python.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"

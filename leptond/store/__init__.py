"""All of leptond's SQL. :class:`Store` is the door: functions of the modules here are handed to
``write`` (durable when it returns) or ``read`` (one snapshot, never waiting for a write)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from leptond.errors import StartRefused
from leptond.paths import data_dir
from leptond.store.connection import Reader, Writer
from leptond.store.migrate import migrate

DATABASE = "leptond.db"


class Store:
    """The open database. Listeners are called, in the event loop, after every commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listeners: list[Callable[[], None]] = []
        self._writer = Writer(path, self._committed)
        self._reader = Reader(path)
        self.write = self._writer.write
        self.read = self._reader.read

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after every commit from now on."""
        self._listeners.append(listener)

    def _committed(self) -> None:
        for listener in self._listeners:
            listener()

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return self._writer.commits

    async def open(self) -> None:
        """Opens, migrates, and checks. Raises StartRefused."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            await self._writer.open()
            await self._writer.exclusive(lambda db: migrate(db, data_dir("migrations")))
            await self._reader.open()
        except sqlite3.DatabaseError as error:
            raise StartRefused(
                f"{self.path} cannot be used as the queue's database: {error}. It was not changed.", 78
            ) from error

    async def close(self) -> None:
        """Finishes the writes that wait, then closes."""
        await self._reader.close()
        await self._writer.close()


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """A store for the length of a block."""
    store = Store(path)
    try:
        await store.open()
        yield store
    finally:
        await store.close()

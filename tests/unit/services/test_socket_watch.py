"""Sockets that are gone are made again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path

import pytest

from leptond.engines.report_sockets import ReportSocket
from leptond.services import socket_watch as module
from leptond.services.socket_watch import SocketWatch


class Heard(ReportSocket):
    """A socket, and what has come to it. `looks`: how often it was asked for."""

    def __init__(self, path: Path) -> None:
        self.messages: list[bytes] = []
        self.looks = 0
        super().__init__(path, self._take)

    def _take(self, one: socket.socket) -> int:
        with contextlib.suppress(BlockingIOError):
            self.messages.append(one.recv(100))
        return 1

    def is_there(self) -> bool:
        self.looks += 1
        return super().is_there()


@pytest.fixture
async def heard(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GATHER_S", 0.01)
    monkeypatch.setattr(module, "MISSING_S", 0.05)
    one = Heard(tmp_path / "rt" / "leptond" / "x.jobs")
    one.start(parents=2)
    task = asyncio.create_task(SocketWatch(lambda: [one]).run())
    yield one
    task.cancel()
    one.close()


def send(path: Path, data: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(data, str(path))
        except OSError:
            return False
    return True


async def arrives(heard: Heard, data: bytes) -> None:
    async with asyncio.timeout(30):
        while not send(heard.path, data):
            await asyncio.sleep(0.01)
        while data not in heard.messages:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["socket", "directory", "place"])
async def test_what_was_removed_is_made_again(heard, tmp_path, what):
    await arrives(heard, b"before")
    match what:
        case "socket":
            heard.path.unlink()
        case "directory":
            heard.path.parent.rename(tmp_path / "away")
        case "place":
            shutil.rmtree(tmp_path / "rt")
            await asyncio.sleep(0.1)
            assert not (tmp_path / "rt").exists(), "its place is not ours to make"
            (tmp_path / "rt").mkdir()
    await arrives(heard, b"after")
    for _ in range(2):
        heard.path.unlink()
        await arrives(heard, b"and again")
        heard.messages.clear()


async def test_one_that_another_program_has_put_there_is_no_reason_to_give_up(heard):
    heard.path.unlink()
    heard.path.write_text("in the way")
    await asyncio.sleep(0.1)
    assert heard.path.read_text() == "in the way"
    heard.path.unlink()
    await arrives(heard, b"after")


async def test_it_rests_while_all_is_there(heard):
    await arrives(heard, b"before")
    await asyncio.sleep(0.05)
    looks = heard.looks
    await asyncio.sleep(0.3)
    assert heard.looks == looks

"""Sockets for reports: one for each account, of which none takes all the time."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from leptond.engines.report_sockets import ReportSocket, ReportSockets

PATIENCE_S = 30


class Heard:
    """What has come. Takes 4 messages in one go."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def __call__(self, one: socket.socket) -> int:
        for taken in range(4):
            try:
                self.messages.append(one.recv(100))
            except BlockingIOError:
                return taken
        return 4


def send(path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        for message in messages:
            one.sendto(message, str(path))


async def test_an_account_that_sends_much_is_read_again_later(tmp_path):
    heard = Heard()
    one = ReportSocket(tmp_path / "x.jobs", heard, os.getuid(), most_per_s=8)
    one.start(parents=1)
    send(one.path, *[b"%d" % number for number in range(9)])
    for _ in range(2):
        one.read()
    assert len(heard.messages) == 8
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(heard.messages) == 8, "the loop does not read it any more"
    async with asyncio.timeout(PATIENCE_S):
        while len(heard.messages) < 9:
            await asyncio.sleep(0.01)
    assert heard.messages == [b"%d" % number for number in range(9)]
    one.close()


async def test_each_account_has_a_socket_which_the_next_daemon_opens_again(tmp_path):
    heard, path = Heard(), tmp_path / "x.jobs"
    first = ReportSockets([path], multi_user=True)
    first.open(heard)
    own = first.of_account(os.getuid())
    assert own == first.of_account(os.getuid()) == tmp_path / f"x.jobs.{os.getuid()}"
    assert first.of_account(None) == path
    assert {one.stat().st_mode & 0o777 for one in (own, path)} == {0o600}
    first.close()
    with pytest.raises(ConnectionRefusedError):
        send(own, b"lost")
    (tmp_path / "x.jobs.other").write_text("precious")
    later = ReportSockets([path], multi_user=True)
    later.open(heard)
    send(own, b"1")
    send(path, b"2")
    later.read()
    assert sorted(heard.messages) == [b"1", b"2"]
    assert (tmp_path / "x.jobs.other").read_text() == "precious"
    later.close()


async def test_without_accounts_all_report_at_one_socket(tmp_path):
    sockets = ReportSockets([tmp_path / "a.jobs", tmp_path / "b.jobs"])
    sockets.open(Heard())
    assert sockets.of_account(os.getuid()) == tmp_path / "b.jobs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jobs", "b.jobs"]
    sockets.close()

"""A Unix socket of the server: made, found, and made again without losing connections."""

import asyncio
import stat

import pytest

from leptond.api.unix_listener import UnixListener
from leptond.base.errors import StartRefused


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


@pytest.fixture
async def listener(tmp_path):
    one = UnixListener(tmp_path / "made" / "socket", Echo, group=False)
    yield one
    one.close()


async def said(connection, text):
    reader, writer = connection
    writer.write(text)
    async with asyncio.timeout(30):
        return await reader.readexactly(len(text))


async def connect(listener):
    return await asyncio.open_unix_connection(str(listener.path))


@pytest.mark.parametrize(("group", "mode"), [(False, 0o600), (True, 0o660)])
async def test_who_may_connect(tmp_path, group, mode):
    one = UnixListener(tmp_path / "socket", Echo, group=group)
    assert not one.is_there()
    await one.start(parents=0)
    assert stat.S_IMODE(one.path.stat().st_mode) == mode
    assert one.is_there()
    one.close()


async def test_connections_stay_when_the_socket_is_made_again(listener):
    await listener.start(parents=1)
    before = await connect(listener)
    assert await said(before, b"one") == b"one"
    listener.path.unlink()
    assert not listener.is_there()
    await listener.make_again()
    assert listener.is_there()
    after = await connect(listener)
    assert await said(after, b"two") == b"two"
    assert await said(before, b"still") == b"still"
    for _, writer in (before, after):
        writer.close()


async def test_only_so_many_directories_are_made(tmp_path):
    one = UnixListener(tmp_path / "a" / "b" / "socket", Echo, group=False)
    with pytest.raises(StartRefused):
        await one.start(parents=1)
    await one.start(parents=2)
    assert one.is_there()
    one.close()
    one.close()
    with pytest.raises(OSError, match=r"Connection refused|No such file"):
        await connect(one)

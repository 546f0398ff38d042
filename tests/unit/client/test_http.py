"""HTTP from the client's side, against a peer that writes what it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.client.http import Answer, BadAnswer, Connection


class Peer:
    """Listens, and answers every connection with the same bytes in the same pieces; `asked` is what came."""

    def __init__(self, path: Path) -> None:
        self.pieces: list[bytes] = []
        self.asked = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.asked = connection.recv(65536)
                for piece in self.pieces:
                    connection.sendall(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, str]]:
    path = tmp_path_factory.mktemp("wire") / "s"
    one = Peer(path)
    yield one, str(path)
    one.close()


@contextlib.contextmanager
def answered(peer: tuple[Peer, str], *pieces: bytes, method: str = "GET") -> Iterator[Answer]:
    peer[0].pieces = list(pieces)
    with contextlib.closing(Connection(peer[1], timeout_s=30)) as one:
        one.connect()
        yield one.exchange(method, "/x?y=1", None, {"Accept": "*/*"})


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX: y\r\n\r\n"


READERS: dict[str, Callable[[Answer], bytes]] = {
    "read": lambda answer: answer.read(),
    "read_some": lambda answer: b"".join(iter(lambda: answer.read_some(7), b"")),
    "read_line": lambda answer: b"".join(iter(answer.read_line, b"")),
}


@pytest.mark.parametrize("reader", READERS)
@given(
    body=st.lists(st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"x", b"\n")), max_size=5),
    framing=st.sampled_from(["chunked", "length", "close"]),
    cut=st.integers(0, 300),
)
def test_a_body_arrives_whole_however_it_is_framed_and_cut(peer, reader, body, framing, cut):
    whole = b"".join(body)
    head = {
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "length": b"Content-LENGTH: %d\r\n" % len(whole),
        "close": b"",
    }[framing]
    data = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + (chunked(body) if framing == "chunked" else whole)
    with answered(peer, data[:cut], data[cut:]) as answer:
        assert READERS[reader](answer) == whole
        assert (answer.status, answer.reason, answer.missing_bytes) == (200, "OK", 0)
        assert answer.will_close is (framing == "close")


def test_lines_come_as_they_are_ended(peer):
    with answered(peer, b"HTTP/1.0 200 OK\r\n\r\n", b"one\ntw", b"o\nthree") as answer:
        assert [answer.read_line() for _ in range(4)] == [b"one\n", b"two\n", b"three", b""]


def test_the_request_is_what_the_standard_asks_for(peer):
    with answered(peer, b"HTTP/1.1 204 No Content\r\nA: 1\r\na: 2\r\n\r\nnot a body") as answer:
        assert (answer.read(), answer.headers.get("A"), answer.headers.get("none", "-")) == (b"", "1, 2", "-")
    assert peer[0].asked == b"GET /x?y=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


def test_a_connection_is_kept_and_an_interim_answer_passed_over(peer):
    two = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nab"
    peer[0].pieces = [two, two.replace(b"ab", b"cd")]
    with contextlib.closing(Connection(peer[1], timeout_s=30)) as one:
        one.connect()
        first = one.exchange("POST", "/", b"{}", {})
        assert (first.status, first.read(), first.will_close) == (201, b"ab", False)
        assert one.exchange("POST", "/", b"", {}).read() == b"cd"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not the beginning of an answer"),
        (b"HTTP/1.1 OK\r\n\r\n", "not the beginning of an answer"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "not a header"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "breaks off"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 201 + b"\r\n", "too many headers"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000, "too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "2 bytes are missing"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not the length of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "not the length of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "breaks off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "longer than it says"),
    ],
)
def test_what_is_no_whole_answer_is_told(peer, data, message):
    with pytest.raises(BadAnswer, match=message), answered(peer, data) as answer:
        answer.read()


@pytest.mark.parametrize("bad", ["/a b", "/a\r\nX: y", ""])
def test_nothing_breaks_out_of_a_request(peer, bad):
    with contextlib.closing(Connection(peer[1], timeout_s=30)) as one:
        one.connect()
        with pytest.raises(ValueError, match="line breaks"):
            one.exchange("GET", bad, None, {})
        with pytest.raises(ValueError, match="line breaks"):
            one.exchange("GET", "/", None, {"A": "b\r\nC: d"})


def test_a_connection_that_the_other_side_closed_is_stale(peer):
    with contextlib.closing(Connection(peer[1], timeout_s=30)) as one:
        assert one.is_stale()
        one.connect()
        assert not one.is_stale()
        peer[0].pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
        assert one.exchange("GET", "/", None, {}).read() == b""
        one.wait_at_most(30)
        assert one._socket.recv(1, socket.MSG_PEEK) == b""  # until the peer has closed
        assert one.is_stale()

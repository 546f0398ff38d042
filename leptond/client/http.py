"""HTTP/1.1 (RFC 9112) from the client's side: what an exchange with a daemon of ours needs, and no more.

The standard library's ``http.client`` brings the whole of ``email`` and ``ssl`` along, which takes longer to
import than all else that leptonctl does. There is no proxy and no redirect here.
"""

from __future__ import annotations

import _socket
import contextlib
import io
import os
from collections.abc import Iterator, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_SUN_PATH = 107  # bytes of a Unix socket's address, without its final NUL
_LINE_BYTES = 64 * 1024
_MOST_HEADERS = 200


class BadAnswer(Exception):
    """The answer is not HTTP, or it broke off."""


class Headers:
    """The header fields of an answer; names count in any case, a field that comes again is joined."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a field."""
        return self._values.get(name.lower(), default)

    def has(self, name: str, word: str) -> bool:
        """Return True if a comma-separated list holds `word`, as ``Connection`` holds ``close``."""
        return word in [part.strip().lower() for part in (self.get(name) or "").split(",")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


class Answer:
    """A status, headers, and a body that is still to be read. Its readers raise OSError and BadAnswer."""

    def __init__(self, status: int, reason: str, headers: Headers, body: _Body, *, keeps: bool) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.will_close = not keeps
        self._raw = body
        self._body = io.BufferedReader(body)

    @property
    def missing_bytes(self) -> int:
        """Bytes of a body of known length that have not come yet."""
        return self._raw.left if self._raw.kind == "length" else 0

    def read(self) -> bytes:
        """The rest of the body. Raises BadAnswer when it breaks off."""
        data = self._body.read()
        if self.missing_bytes:
            raise BadAnswer(f"{self.missing_bytes} bytes are missing")
        return data

    def read_some(self, size: int) -> bytes:
        """Return up to `size` bytes that have come; wait where there are none. Empty at the end."""
        return self._body.read1(size)

    def read_line(self) -> bytes:
        """The next line; without its line break where the body ends, empty after that."""
        return self._body.readline()


class _Body(io.RawIOBase):
    """The bytes of one body in the stream of a connection."""

    def __init__(self, stream: io.BufferedReader, kind: str, left: int) -> None:
        self.kind = kind
        """``length``, ``chunked``, or ``close``: it ends with the connection."""
        self.left = left
        self._stream = stream
        self._first = True
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self.kind == "chunked" and not self.left and not self._done:
            self._next_chunk()
        if self._done or (self.kind != "close" and not self.left):
            return 0
        size = len(buffer) if self.kind == "close" else min(len(buffer), self.left)
        data = self._stream.read1(size)
        if self.kind != "close":
            self.left -= len(data)
        if not data:
            if self.kind == "chunked":
                raise BadAnswer("the answer breaks off")
            self._done = True
        buffer[: len(data)] = data
        return len(data)

    def _next_chunk(self) -> None:
        if not self._first and _line(self._stream):
            raise BadAnswer("a chunk of the answer is longer than it says")
        self._first = False
        word = _line(self._stream).partition(b";")[0].strip()
        try:
            self.left = int(word, 16)
        except ValueError:
            raise BadAnswer(f"{word[:40]!r} is not the length of a chunk") from None
        if self.left < 0:
            raise BadAnswer(f"{word[:40]!r} is not the length of a chunk")
        if not self.left:
            while _line(self._stream):
                pass  # trailer fields say nothing to us
            self._done = True


class _Received(io.RawIOBase):
    """The bytes that come in on a connection, which stays open when this is closed."""

    def __init__(self, one: _socket.socket) -> None:
        self._socket = one

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        return self._socket.recv_into(buffer)


class Connection:
    """A connection to a Unix socket (`path`), or to a host and port, with `tls` as the
    system trusts certificates (SSL_CERT_FILE). Its methods raise OSError, and BadAnswer
    for an answer that is not HTTP."""

    def __init__(
        self,
        path: str | None = None,
        *,
        host: str = "",
        port: int = 0,
        tls: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        self._path = path
        self._host = host
        self._port = port
        self._tls = tls
        self._timeout_s = timeout_s
        self._socket: _socket.socket | None = None
        self._stream: io.BufferedReader | None = None

    def connect(self) -> None:
        """Open the connection."""
        if self._path is None:
            import socket  # which takes longer to import than the whole of this

            self._socket = socket.create_connection((self._host, self._port), self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                self._socket = _with_tls(self._socket, self._host)
        else:
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                self._socket.settimeout(self._timeout_s)
                _connect_unix(self._socket, self._path)
            except BaseException:
                self.close()
                raise
        self._stream = io.BufferedReader(_Received(self._socket))

    def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            self._stream.close()
        if self._socket is not None:
            self._socket.close()
        self._stream = self._socket = None

    def wait_at_most(self, timeout_s: float | None) -> None:
        """Set the timeout of each of the next reads and writes."""
        assert self._socket is not None
        self._socket.settimeout(timeout_s)

    def is_stale(self) -> bool:
        """Return True if the other side closed it while it was idle: it is readable then, at its end."""
        if self._socket is None:
            return True
        if self._tls:
            import select

            return bool(select.select([self._socket], [], [], 0)[0])
        timeout_s = self._socket.gettimeout()
        self._socket.setblocking(False)
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(timeout_s)
        return True

    def exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Send a request and return the answer once its head is there. The body of the answer before must
        have been read to its end. Raises ValueError for a text that would break out of its header."""
        assert self._socket is not None
        assert self._stream is not None
        with contextlib.suppress(BrokenPipeError):
            # a server may answer (413, 503) before it has read everything: look for that answer
            self._socket.sendall(self._head(method, url, body, headers) + (body or b""))
        return _answer(self._stream, method)

    def _head(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        host = "localhost" if self._path is not None else self._host
        fields = {"Host": f"[{host}]" if ":" in host else host, **headers}
        if self._path is None:
            fields["Host"] += f":{self._port}"
        if body is not None or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(body or b""))
        lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if url.split() != [url] or any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a request cannot hold line breaks, nor its address blanks")
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def _with_tls(one: socket.socket, host: str) -> socket.socket:
    """Return the connection with TLS. Raises OSError for a server that the system does not trust."""
    import ssl  # as expensive as all else together

    try:
        return ssl.create_default_context().wrap_socket(one, server_hostname=host)
    except BaseException:
        one.close()
        raise


def _connect_unix(one: _socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _SUN_PATH:
        one.connect(path)
        return
    # too long for a socket address: reach it through its directory
    parent, name = os.path.split(path)
    directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        one.connect(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


def _line(stream: io.BufferedReader) -> bytes:
    """The next line of a head, without its line break."""
    line = stream.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise BadAnswer(
            "a line of the answer is too long" if len(line) == _LINE_BYTES else "the answer breaks off"
        )
    return line.rstrip(b"\r\n")


def _answer(stream: io.BufferedReader, method: str) -> Answer:
    while True:
        version, status, reason = _status(stream)
        headers = _headers(stream)
        if status >= 200:
            break  # before it a server may say that it goes on (1xx)
    kind, left = _framing(method, status, headers)
    keeps = version == "HTTP/1.1" and kind != "close" and not headers.has("Connection", "close")
    return Answer(status, reason, headers, _Body(stream, kind, left), keeps=keeps)


def _status(stream: io.BufferedReader) -> tuple[str, int, str]:
    line = stream.readline(_LINE_BYTES)
    if not line:
        raise BadAnswer("the connection was closed without an answer")
    version, _, rest = line.decode("latin-1").strip().partition(" ")
    code, _, reason = rest.partition(" ")
    if version not in ("HTTP/1.0", "HTTP/1.1") or len(code) != 3 or not code.isdecimal():
        raise BadAnswer(f"{line[:40]!r} is not the beginning of an answer")
    return version, int(code), reason


def _headers(stream: io.BufferedReader) -> Headers:
    pairs: list[tuple[str, str]] = []
    while line := _line(stream).decode("latin-1"):
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise BadAnswer(f"{line[:40]!r} is not a header")
        pairs.append((name, value.strip()))
        if len(pairs) > _MOST_HEADERS:
            raise BadAnswer("the answer has too many headers")
    return Headers(pairs)


def _framing(method: str, status: int, headers: Headers) -> tuple[str, int]:
    """The framing of the body (RFC 9112, 6.3): ``length``, ``chunked`` or ``close``, and its length."""
    if method == "HEAD" or status in (204, 304):
        return "length", 0
    if headers.has("Transfer-Encoding", "chunked"):
        return "chunked", 0
    length = headers.get("Content-Length")
    if length is None:
        return "close", 0
    if not (length.isascii() and length.isdecimal()):
        raise BadAnswer(f"{length[:40]!r} is not a length")
    return "length", int(length)

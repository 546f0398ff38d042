"""The modules that a process forked from a warm one has imported, read from outside: nothing in the process
is touched, and it cannot notice.

It has its table of modules where the warm process has it, for a fork changes no address. What stands there is
of the job, and not to be trusted: every length is limited, and whatever does not look like a table of modules
is none."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

import msgspec

MOST_MODULES = 50_000
LONGEST_NAME = 200
BATCH = 512
"""Pieces that one call reads; the kernel takes 1024."""
DICT_HEAD = 48
KEYS_HEAD = 32
STRING_HEAD = 40


class Layout(msgspec.Struct, frozen=True):
    """Where an interpreter has what is read: the address of ``sys.modules``, those of the types of dictionary
    and string, and the distance of a string's characters from its beginning."""

    modules: int
    dict_type: int
    str_type: int
    text_at: int


class Unreadable(Exception):
    """The modules of a process cannot be read: why."""


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
]


def modules_of(pid: int, layout: Layout) -> list[str]:
    """Return the names in the table of modules of a process, in their order. Raises Unreadable. It may take
    milliseconds."""
    head = _read(pid, [(layout.modules, DICT_HEAD)])
    _, kind, used, _, keys, values = struct.unpack("=6Q", head)
    if kind != layout.dict_type or values or not 0 < used <= MOST_MODULES:
        raise Unreadable("its table of modules has another form")
    head = _read(pid, [(keys, KEYS_HEAD)])
    index_bytes, entry_kind = head[9], head[10]
    count = struct.unpack_from("=q", head, 24)[0]
    if index_bytes > 32 or entry_kind > 1 or not used <= count <= 2 * MOST_MODULES:
        raise Unreadable("its table of modules has another form")
    size, at = (24, 8) if entry_kind == 0 else (16, 0)
    entries = _read(pid, [(keys + KEYS_HEAD + (1 << index_bytes), size * count)])
    places = [struct.unpack_from("=2Q", entries, size * number + at) for number in range(count)]
    return _strings(pid, [name for name, module in places if name and module], layout)


def _strings(pid: int, places: Sequence[int], layout: Layout) -> list[str]:
    heads = _read(pid, [(place, STRING_HEAD) for place in places])
    pieces = []
    for number, place in enumerate(places):
        _, kind, length = struct.unpack_from("=3Q", heads, STRING_HEAD * number)
        if kind == layout.str_type and length <= LONGEST_NAME:
            pieces.append((place + layout.text_at, length))
    text = _read(pid, pieces)
    names, at = [], 0
    for _, length in pieces:
        name = text[at : at + length]
        at += length
        if name.isascii() and b"\0" not in name:
            names.append(name.decode())
    return names


def _read(pid: int, pieces: Sequence[tuple[int, int]]) -> bytes:
    """Return the contents of pieces of a process's memory, one after another. Raises Unreadable."""
    found = []
    for begin in range(0, len(pieces), BATCH):
        some = pieces[begin : begin + BATCH]
        size = sum(length for _, length in some)
        buffer = ctypes.create_string_buffer(size)
        ours = _Piece(ctypes.addressof(buffer), size)
        theirs = (_Piece * len(some))(*(_Piece(*one) for one in some))
        read = _libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), len(some), 0)
        if read != size:
            why = os.strerror(ctypes.get_errno()) if read < 0 else "a part of it is not there"
            raise Unreadable(f"its memory cannot be read: {why}")
        found.append(buffer.raw)
    return b"".join(found)

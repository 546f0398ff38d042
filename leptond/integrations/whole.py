"""Checkpoints of frameworks: which of them are whole, and which to resume from. Standard library only.

That a file exists does not say that all of it is there: a crash of the machine, a full disk or a copy that
was broken off leave half of it. What can be checked cheaply is: the sizes that were noted when it was saved,
the length that a safetensors file names in its header, the directory at the end of torch's archives, and that
all shards of an index are there.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from leptond.base import durable

SIZES = ".leptond-sizes.json"
LOADING = ".leptond-loading"
MOST_HEADER_BYTES = 100 * 1024 * 1024
"""The largest header that the safetensors format allows."""

_ARCHIVES = frozenset({".bin", ".pt", ".pth", ".ckpt"})
_ZIP = b"PK\x03\x04"


def flaw(path: Path) -> str | None:
    """Return what is wrong with a checkpoint (a file, or a directory of files); None where nothing is seen to
    be."""
    try:
        if not path.is_dir():
            return _flaw_of_file(path)
        return _flaw_of_sizes(path) or _first(_flaw_of_file(one) for one in sorted(path.iterdir()))
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"


def _first(flaws: Iterable[str | None]) -> str | None:
    return next((one for one in flaws if one is not None), None)


def _flaw_of_sizes(directory: Path) -> str | None:
    """Compare a directory with the sizes that were noted when it was saved, if they were."""
    try:
        sizes = json.loads((directory / SIZES).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return f"{SIZES} is not whole"
    for name, size in sizes.items():
        try:
            found = (directory / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes, and had {size} when it was saved"
    return None


def _flaw_of_file(path: Path) -> str | None:
    if path.suffix == ".safetensors":
        return _flaw_of_safetensors(path)
    if path.name.endswith(".index.json"):
        return _flaw_of_index(path)
    if path.suffix in _ARCHIVES and path.is_file():
        return _flaw_of_archive(path)
    return None


def _flaw_of_safetensors(path: Path) -> str | None:
    """The format: eight bytes of header length, the header in JSON with the offsets of all tensors, their
    bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return f"{path.name} is cut off in its header"
        (length,) = struct.unpack("<Q", start)
        if length > MOST_HEADER_BYTES:
            return f"{path.name} has no header of safetensors"
        text = file.read(length)
    if len(text) < length:
        return f"{path.name} is cut off in its header"
    try:
        tensors = [one for name, one in json.loads(text).items() if name != "__metadata__"]
        wanted = 8 + length + max((one["data_offsets"][1] for one in tensors), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return f"{path.name} has no header of safetensors"
    return None if size == wanted else f"{path.name} has {size} of {wanted} bytes"


def _flaw_of_index(path: Path) -> str | None:
    try:
        shards = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path.name} is not an index of shards"
    missing = [name for name in shards if not (path.parent / name).is_file()]
    return f"{missing[0]} is missing, which {path.name} names" if missing else None


def _flaw_of_archive(path: Path) -> str | None:
    """torch's archives are zip files, with their directory at the end. What is no archive (torch before 1.6,
    other programs) cannot be checked, unless it is empty."""
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    if not start:
        return f"{path.name} is empty"
    if start != _ZIP:
        return None
    try:
        with zipfile.ZipFile(path):
            return None
    except (zipfile.BadZipFile, EOFError, ValueError):
        return f"{path.name} is cut off"


def note_sizes(directory: Path) -> None:
    """Note the sizes of a checkpoint's files beside them, and make all of it durable. Call it when everything
    is written. Raises OSError."""
    sizes = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in (SIZES, LOADING):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            sizes[str(path.relative_to(directory))] = path.stat().st_size
    temporary = directory / f"{SIZES}.tmp"
    with temporary.open("w") as out:
        json.dump(sizes, out)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(directory / SIZES)
    for one in (directory, directory.parent):
        durable.sync_directory(str(one))


def newest(found: Sequence[Path], *, attempt: int | None) -> Path | None:
    """Choose the checkpoint to resume from among `found`, the newest first; None if there is none.

    One that is not whole is passed over, and so is one that an earlier attempt began to load without getting
    through it (unless all are: then the newest is tried again). A line on standard error says which, and why.
    `attempt`: the number of the running attempt; None outside of a job, where no attempt is noted. Every rank
    may call it: all choose the same, and the first notes it."""
    whole = []
    for path in found:
        wrong = flaw(path)
        if wrong is None:
            whole.append(path)
        else:
            _say(f"{path.name} is passed over: {wrong}")
    if attempt is None:
        return whole[0] if whole else None
    untried = [path for path in whole if _tried_in(path) in (None, attempt)]
    chosen = next(iter(untried or whole), None)
    if chosen is None:
        return None
    for path in whole[: whole.index(chosen)]:
        _say(f"{path.name} is passed over: attempt {_tried_in(path)} did not get through its load")
    if int(os.environ.get("RANK") or 0) == 0:
        _note_of(chosen).write_text(str(attempt))
    return chosen


def loaded(path: Path) -> None:
    """Note that the load of a checkpoint went well."""
    _note_of(path).unlink(missing_ok=True)


def _note_of(path: Path) -> Path:
    return path / LOADING if path.is_dir() else path.with_name(f"{LOADING}-{path.name}")


def _tried_in(path: Path) -> int | None:
    try:
        return int(_note_of(path).read_text())
    except (OSError, ValueError):
        return None


def _say(text: str) -> None:
    sys.stderr.write(f"leptond: {text}\n")
    sys.stderr.flush()

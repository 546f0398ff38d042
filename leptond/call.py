"""A call of a function as a job: ``python -m leptond.call FILE`` makes the call that FILE holds and leaves
its outcome beside it. :class:`leptond.client.executor.LeptonExecutor` writes the one file and reads the other
with the functions here. Standard library only: it runs in the interpreter that the user chose for the call.

A file is a pickle, then a footer (JSON: what it holds, its length and CRC), then the footer's length and CRC
and a mark. So a large value is written without a second copy of it, what was cut off or changed is known as
such, and the footer can be read where the pickle cannot."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable
from typing import IO, Any

MARK = b"leptond1"
SUFFIX = ".call"
TAIL = 12 + len(MARK)
MAX_FOOTER = 16 << 20
CHUNK = 1 << 20

EXIT_ERROR = 1
EXIT_CONFIG = 2
"""The call cannot be made here, and another try would end the same way."""

Dump = Callable[[Any, Any, int], None]


class Damaged(ValueError):
    """A file is not what was written: torn, rotten, or not one of these."""


class _Counted:
    """A file that keeps length and CRC of the data written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.crc = 0

    def write(self, data: Any) -> int:
        """Write `data` to the file."""
        view = memoryview(data)
        self.size += view.nbytes
        self.crc = zlib.crc32(view, self.crc)
        self._file.write(view)
        return view.nbytes


def write(path: str, value: Any, about: dict[str, Any], *, dump: Dump = pickle.dump) -> None:
    """Write `value`, and `about` as its footer, to `path`: all of it, durably, or nothing. The file's
    permissions follow the directory's. The directory's own entry is left to :func:`settle`. Raises OSError,
    and what `dump` raises."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, os.stat(os.path.dirname(path) or ".").st_mode & 0o666)
            counted = _Counted(file)
            dump(value, counted, pickle.HIGHEST_PROTOCOL)
            footer = json.dumps({**about, "size": counted.size, "crc": counted.crc}).encode()
            file.write(footer + len(footer).to_bytes(8, "big") + zlib.crc32(footer).to_bytes(4, "big") + MARK)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def settle(directory: str) -> None:
    """Make the names of the files in `directory` durable (fsync of the directory)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def look(path: str) -> dict[str, Any]:
    """The footer of the file at `path`, once all of the file is known to be there. Raises OSError,
    Damaged."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < TAIL:
            raise Damaged(f"{path} has {end} bytes, so its end is missing")
        file.seek(end - TAIL)
        tail = file.read(TAIL)
        length = int.from_bytes(tail[:8], "big")
        if tail[12:] != MARK or length > min(end - TAIL, MAX_FOOTER):
            raise Damaged(f"{path} does not end as a file of leptond.call does: it was cut off or changed")
        file.seek(end - TAIL - length)
        footer = file.read(length)
        if zlib.crc32(footer) != int.from_bytes(tail[8:12], "big"):
            raise Damaged(f"{path} was changed after it was written: its footer is not what it was")
        about: dict[str, Any] = json.loads(footer)
        left = end - TAIL - length
        if left != about["size"]:
            raise Damaged(f"{path} was changed after it was written: its length is not what it was")
        file.seek(0)
        found = 0
        while left:
            piece = file.read(min(CHUNK, left))
            found, left = zlib.crc32(piece, found), left - len(piece)
        if found != about["crc"]:
            raise Damaged(f"{path} was changed after it was written: its checksum differs")
    return about


def load(path: str) -> Any:
    """The value at `path`; call :func:`look` first. Raises what the classes of the value raise."""
    with open(path, "rb") as file:
        return pickle.load(file)


def result_path(path: str, job_id: str, rank: int = 0) -> str:
    """The path of the outcome of the call at `path`. Only rank 0 leaves a value, any rank an error."""
    return f"{path.removesuffix(SUFFIX)}.{job_id}{f'.{rank}' if rank else ''}.result"


def each(fn: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Make several calls in one job; return their values in order."""
    return [fn(*item) for item in items]


def dump_of(how: str) -> Dump:
    """The function that pickles: `how` is ``pickle`` or ``cloudpickle``. Raises ImportError."""
    if how == "cloudpickle":
        import cloudpickle

        made: Dump = cloudpickle.dump
        return made
    return pickle.dump


def main(words: list[str]) -> int:
    """Make the call; return the exit code of the process."""
    if len(words) != 1 or not words[0].endswith(SUFFIX):
        return _refuse(f"usage: python -m leptond.call FILE{SUFFIX}; LeptonExecutor writes such files")
    path = words[0]
    env = os.environ
    job_id, attempt = env.get("LEPTOND_JOB_ID", "0"), int(env.get("LEPTOND_ATTEMPT") or 1)
    world = int(env.get("WORLD_SIZE") or 1)
    rank = int(env.get("RANK") or 0) if world > 1 else 0
    try:
        about = look(path)
    except PermissionError:
        who = f"the user with the id {os.getuid()}"
        return _refuse(
            f"{path} cannot be read by {who}: give LeptonExecutor a folder= that this user may read"
        )
    except (OSError, Damaged) as error:
        return _refuse(f"there is no call to make: {error}")
    here = "{}.{}".format(*sys.version_info)
    if about["by"] == "cloudpickle" and about["python"] != here:
        return _refuse(
            f"the function comes from Python {about['python']}, and {sys.executable} is Python {here}: code"
            " does not travel between them. Give LeptonExecutor a python= of the same version"
        )
    target = result_path(path, job_id, rank)
    if world == 1 and _has_value(target):  # one rank of several would leave the others waiting for it
        print("leptond.call: an earlier attempt left the value, so there is nothing to do", file=sys.stderr)
        return 0
    said = {"attempt": attempt, "python": here, "rank": rank, "world": world}
    sys.path.extend(entry for entry in about["sys_path"] if entry not in sys.path)
    try:
        dump = dump_of(about["by"])
        fn, args, kwargs = load(path)
        value = fn(*args, **kwargs)
    except Exception as error:
        return _fail(error, target, said)
    try:
        if rank == 0:
            write(target, value, {**said, "kind": "value", "by": about["by"], "at": time.time()}, dump=dump)
            settle(os.path.dirname(target))
    except Exception as error:
        what = f"the function returned a {type(value).__qualname__}, which cannot be left at {target}"
        error.add_note(f"{what}; return plain data, or write it to a file and return the file's path")
        return _fail(error, target, said)
    return 0


def _refuse(text: str) -> int:
    print(f"leptond.call: {text}", file=sys.stderr)
    return EXIT_CONFIG


def _has_value(path: str) -> bool:
    try:
        return bool(look(path)["kind"] == "value")
    except (OSError, Damaged, KeyError):
        return False


def _fail(error: Exception, target: str, said: dict[str, Any]) -> int:
    """Write the error for the caller, and print it: a job's failure class is found in its output."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # without the frame of this module
    text = "".join(traceback.format_exception(error))
    print(text, end="", file=sys.stderr, flush=True)
    kind = type(error)
    about = {
        **said,
        "kind": "error",
        "at": time.time(),
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "text": text,
    }
    error.__traceback__ = None
    for how in ("cloudpickle", "pickle", ""):
        try:
            write(target, error if how else None, {**about, "by": how}, dump=dump_of(how))
            settle(os.path.dirname(target))
            break
        except OSError as failure:
            print(f"leptond.call: the error cannot be left at {target}: {failure}", file=sys.stderr)
            break
        except Exception:
            continue  # an error with a lock in it, say: its text travels alone
    return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

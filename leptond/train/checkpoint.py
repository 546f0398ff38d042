"""Checkpoints that are whole or not there.

A checkpoint is a directory ``step-0000000120.0000``: its files, and a manifest with the size and the SHA-256
of each, written last. It is made under another name, synced, and renamed. Reading begins with the newest and
goes back to the first one whose manifest and hashes hold: a torn, truncated or rotten one costs the steps
since the one before, not the training. The second number is the generation: it grows when a training goes
back to an earlier step on purpose, and a later generation is newer whatever its step.

    checkpoints = Checkpoints(job.checkpoint_dir, keep=3)
    found = checkpoints.newest()
    if found is not None:
        state = checkpoints.load(found)
    ...
    checkpoints.save(step, state, loss=loss)        # returns at once; written by a thread
    checkpoints.wait()                              # before the process ends
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from leptond import job

log = logging.getLogger("leptond.train")

MANIFEST = "manifest.json"
PLAIN = "state.pt"
_NAME = re.compile(r"^step-(\d{10})\.(\d{4})$")
_CHUNK = 1 << 20


class CheckpointError(Exception):
    """A checkpoint could not be written or read. The message says which and why."""


@dataclass(frozen=True, order=True)
class Found:
    """A checkpoint on disk; ordered from the oldest to the newest."""

    generation: int
    step: int
    path: Path = field(compare=False)
    loss: float | None = field(compare=False, default=None)


class Checkpoints:
    """The checkpoints in `directory` (None: there is nowhere to save, and nothing is saved). The last `keep`
    stay, and the one with the lowest loss if `keep_best`."""

    def __init__(self, directory: Path | str | None, *, keep: int = 3, keep_best: bool = True) -> None:
        if keep < 1:
            raise ValueError("at least one checkpoint has to stay")
        self.directory = Path(directory) if directory is not None else None
        self.keep = keep
        self.keep_best = keep_best
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self.announce: Callable[[int], None] = job.checkpointed

    # -- writing -----------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        state: dict[str, Any],
        *,
        loss: float | None = None,
        generation: int = 0,
        background: bool = True,
    ) -> None:
        """Save `state` (nested dicts, lists and tuples of tensors, numbers and texts). In the background it
        is copied now and written by a thread; a failure then is logged, and raised by the next
        :meth:`wait`. Raises CheckpointError when not in the background."""
        if self.directory is None:
            return
        self.join()
        copy = snapshot(state) if background else state

        self.run(
            lambda: self._write(step, generation, loss, lambda path: _save_plain(path, copy)),
            background=background,
        )

    def run(self, write: Callable[[], None], *, background: bool) -> None:
        """Write, after what is being written now is on disk; in the background a thread does. Its
        CheckpointError then is logged, and raised by the next :meth:`wait` unless a later one was written."""
        self.join()
        if not background:
            write()
            self._failure = None
            return

        def quietly() -> None:
            try:
                write()
                self._failure = None
            except CheckpointError as error:
                self._failure = error
                log.error("%s; the training goes on", error)

        self._thread = threading.Thread(target=quietly, name="checkpoint", daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Until what is being written is on disk. Raises CheckpointError when the last write failed."""
        self.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def join(self) -> None:
        """Until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, step: int, generation: int, loss: float | None, fill: Callable[[Path], None]) -> None:
        """The whole protocol around `fill`, which writes the files into the directory that it is given."""
        temporary = self.begin(step, generation)
        try:
            fill(temporary)
            self.finish(temporary, step, generation, loss)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"the checkpoint of step {step} could not be written: {error}") from error

    def begin(self, step: int, generation: int) -> Path:
        """A fresh directory for the files of a checkpoint. Raises CheckpointError."""
        assert self.directory is not None
        temporary = self.directory / f".{_name(step, generation)}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(f"cannot make {temporary}: {error}") from error
        return temporary

    def finish(self, temporary: Path, step: int, generation: int, loss: float | None) -> Found:
        """Make the files in `temporary` the checkpoint of `step`, durably, and tell leptond. Raises
        OSError."""
        assert self.directory is not None
        files = {}
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    digest, size = _digest(file)
                    os.fsync(file.fileno())
                files[str(path.relative_to(temporary))] = {"bytes": size, "sha256": digest}
        body: dict[str, Any] = {
            "format": 1,
            "step": step,
            "generation": generation,
            # not a number is not JSON, and is never the best
            "loss": loss if loss is not None and loss - loss == 0 else None,
            "files": files,
        }
        with (temporary / MANIFEST).open("w") as file:
            json.dump({**body, "self": _self_check(body)}, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(temporary)
        final = self.directory / _name(step, generation)
        old = self.directory / f".{final.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        temporary.rename(final)
        _sync(self.directory)
        shutil.rmtree(old, ignore_errors=True)
        self.announce(step)
        self._prune()
        return Found(generation, step, final, body["loss"])

    def _prune(self) -> None:
        """Remove what is neither among the newest nor the best, and what a crash left half-written."""
        found = self._listed()
        kept = set(found[-self.keep :])
        if self.keep_best:
            rated = [(one.loss, one) for one in map(_with_loss, found) if one.loss is not None]
            kept |= {min(rated, key=lambda pair: pair[0])[1]} if rated else set()
        for one in found:
            if one not in kept:
                (one.path / MANIFEST).unlink(missing_ok=True)  # first: half a removal is no checkpoint
                shutil.rmtree(one.path, ignore_errors=True)
        assert self.directory is not None
        for left in (*self.directory.glob(".step-*.tmp"), *self.directory.glob(".step-*.old")):
            shutil.rmtree(left, ignore_errors=True)

    # -- reading -----------------------------------------------------------------------------------

    def _listed(self) -> list[Found]:
        """By name, from the oldest to the newest; unread."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir() if self.directory is not None else ():
                match = _NAME.match(path.name)
                if match is not None:
                    found.append(Found(int(match[2]), int(match[1]), path))
        return sorted(found)

    def newest(self, before: int | None = None) -> Found | None:
        """The newest checkpoint that is whole, of a step below `before` (the oldest of all, where there is
        none such); None when there is none. One that is not whole is passed over with a warning."""
        self.join()
        oldest = None
        for one in reversed(self._listed()):
            fault = check(one.path)
            if fault is None:
                oldest = _with_loss(one)
                if before is None or oldest.step < before:
                    return oldest
                continue
            log.warning("%s cannot be used (%s); going back to the one before", one.path, fault)
        return oldest

    def load(self, found: Found) -> dict[str, Any]:
        """The state of a plain checkpoint, on the CPU. Raises CheckpointError."""
        try:
            # weights_only: a checkpoint is data, it may not run code
            state: dict[str, Any] = torch.load(found.path / PLAIN, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{found.path} cannot be read: {error}") from error
        return state


def check(path: Path) -> str | None:
    """The fault of a checkpoint; None when its manifest and every hash in it hold."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest.pop("self") != _self_check(manifest):
            return "its manifest does not hold together"
        for name, want in manifest["files"].items():
            with (path / name).open("rb") as file:
                digest, size = _digest(file)
            if size != want["bytes"]:
                return f"{name} has {size} bytes and not {want['bytes']}"
            if digest != want["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _with_loss(one: Found) -> Found:
    try:
        loss = json.loads((one.path / MANIFEST).read_bytes())["loss"]
    except (OSError, ValueError, KeyError, TypeError):
        loss = None
    return Found(one.generation, one.step, one.path, loss)


def _name(step: int, generation: int) -> str:
    return f"step-{step:010d}.{generation:04d}"


def _self_check(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _digest(file: Any) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    while part := file.read(_CHUNK):
        sha.update(part)
        size += len(part)
    return sha.hexdigest(), size


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _save_plain(path: Path, state: dict[str, Any]) -> None:
    with (path / PLAIN).open("wb") as file:
        torch.save(state, file)


def snapshot(value: Any) -> Any:
    """A copy in the CPU's memory that the training cannot change any more."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(item) for item in value)
    return value


# -- random states ---------------------------------------------------------------------------------------


def random_states() -> dict[str, Any]:
    """Every random generator of this process: Python's, NumPy's if it is loaded, torch's on the CPU and on
    this process's GPU."""
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, cached = numpy.random.get_state()
        keys = torch.tensor(keys.astype("int64"))
        states["numpy"] = (str(name), keys, int(position), int(has_gauss), float(cached))
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore the random states."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch"])
    if "numpy" in states:
        import numpy

        name, keys, *rest = states["numpy"]
        numpy.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])

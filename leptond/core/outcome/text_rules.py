"""What error lines mean, of those that occur often enough to be known."""

from __future__ import annotations

import re
from collections import deque

import msgspec

from leptond.core.jobs.model import FailureClass


class TextRule(msgspec.Struct, frozen=True, kw_only=True):
    """A pattern of an error line, the class that it stands for, and a sentence for people. `words`: a text in
    which the pattern finds anything holds one of them, in lower case; looking for them is cheap."""

    name: str
    cause: FailureClass
    pattern: re.Pattern[str]
    explanation: str
    words: tuple[str, ...]

    def newest(self, text: str, lowered: str) -> re.Match[str] | None:
        """The last match in `text`, which is `lowered` in lower case."""
        if not any(word in lowered for word in self.words):
            return None
        return next(iter(deque(self.pattern.finditer(text), maxlen=1)), None)


GPU_LOST = TextRule(
    name="text-gpu-lost",
    cause=FailureClass.INFRA_GPU,
    pattern=re.compile(
        r"uncorrectable ECC error|no CUDA-capable device|GPU is lost|fallen off the bus"
        r"|CUDA-capable device\(s\) is/are busy or unavailable|device unavailable",
        re.IGNORECASE,
    ),
    explanation="the GPU failed or could not be used",
    words=("ecc error", "cuda-capable device", "gpu is lost", "fallen off", "device unavailable"),
)
"""Not a class by itself: only the driver knows."""

TEXT_RULES = (
    TextRule(
        name="text-cuda-oom",
        cause=FailureClass.USER_OOM_GPU,
        pattern=re.compile(r"torch\.(cuda\.)?OutOfMemoryError|CUDA out of memory|CUDA error: out of memory"),
        explanation="the job needed more GPU memory than the device has",
        words=("outofmemoryerror", "out of memory"),
    ),
    TextRule(
        name="text-nccl-hang",
        cause=FailureClass.HANG,
        pattern=re.compile(
            r"Watchdog caught collective operation timeout|ProcessGroupNCCL.*heartbeat.*stuck"
        ),
        explanation="a collective operation hung until its watchdog ended the job",
        words=("watchdog", "heartbeat"),
    ),
    TextRule(
        name="text-cuda-fault",
        cause=FailureClass.APP_GPU,
        pattern=re.compile(r"illegal memory access|device-side assert triggered"),
        explanation="the job's own code made the GPU fault",
        words=("illegal memory access", "device-side assert"),
    ),
    TextRule(
        name="text-import",
        cause=FailureClass.CONFIG,
        pattern=re.compile(
            r"^(ModuleNotFoundError|SyntaxError|IndentationError|TabError): .*"
            r"|^\S*python[\d.]*: No module named .*",
            re.MULTILINE,
        ),
        explanation="the program cannot be loaded, and would fail the same way again",
        words=("modulenotfounderror", "syntaxerror", "indentationerror", "taberror", "no module named"),
    ),
)

DEVICE_ERROR = re.compile(
    r"CUDA error|CUDA-capable|CUDA driver|NCCL error|ECC error|GPU is lost|fallen off the bus"
    r"|device unavailable",
    re.IGNORECASE,
)


def speaks_of_device(text: str) -> bool:
    """Return True if an output ends with an error of a device, so that the driver should be asked."""
    return DEVICE_ERROR.search(text[-8192:]) is not None

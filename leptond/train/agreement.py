"""An agreement of the ranks of a training about the step in which they stop.

Each rank hears its SIGTERM in a step of its own. If it left there, the others would wait for it in their next
collective operation, until the grace is over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from leptond import job


class StopAgreement:
    """Says the same in the same step on all ranks: True from the step after the one in which the first of
    them wanted to stop. Made by all ranks at the same time, after the process group. It has a group of its
    own on the CPU where there is gloo, and asks while the next step is computed, so a step waits for nothing.

    `device`: where the tensors of the default group are, for a machine without gloo. Outside a job of leptond
    nobody asks a rank to stop, so nothing is agreed on."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._pending: tuple[torch.Tensor, Any] | None = None
        self._stop = False
        self._group: Any = None
        self._device: torch.device | str = "cpu"
        self.world = 1
        if job.active and distributed.is_available() and distributed.is_initialized():
            self.world = distributed.get_world_size()
        if self.world > 1:
            if distributed.is_gloo_available():
                self._group = distributed.new_group(backend="gloo")
            else:
                self._device = device

    def __call__(self, wanted: bool) -> bool:
        """Return what the ranks agreed on in the step before, and ask again with what this one wants now.
        Called once in every step, by all ranks."""
        if self.world == 1:
            return wanted
        self.settle()
        if not self._stop:
            flag = torch.tensor([float(wanted)], device=self._device)
            operation = distributed.ReduceOp.MAX
            work = distributed.all_reduce(flag, op=operation, group=self._group, async_op=True)
            self._pending = flag, work
        return self._stop

    def settle(self) -> None:
        """Wait for the answer of the step before."""
        if self._pending is not None:
            flag, work = self._pending
            work.wait()
            self._pending = None
            self._stop = self._stop or bool(flag.item())

    def leave_together(self) -> None:
        """Wait until all ranks are about to leave: a launcher ends those that are behind the first."""
        self.settle()
        if self.world > 1:
            distributed.barrier(group=self._group)

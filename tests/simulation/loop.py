"""An event loop whose time is virtual: it never sleeps, never reads a clock and has no threads. Whoever
owns it runs it callback by callback, so that a crash can come between any two of them."""

from __future__ import annotations

import asyncio
import heapq
import warnings
from collections.abc import Callable
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """`now` gives the time in seconds. What asyncio would only log (an exception in a callback) is raised by
    :meth:`step`."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.set_debug(False)
        self._now = now
        self._complaints: list[BaseException] = []

    def time(self) -> float:
        return self._now()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException) and "never retrieved" not in context["message"]:
            self._complaints.append(error)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        # a wait takes time, however short: else one that rounding made too short would be waited for ever
        return super().call_at(max(when, self._now() + 1e-6), callback, *args, context=context)

    def next_at(self) -> float | None:
        """When its next timer is due."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        return timers[0]._when if timers else None

    def wake(self) -> None:
        """Makes ready what is due now."""
        timers, now = self._scheduled, self._now()
        while timers and timers[0]._when <= now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)

    def step(self) -> bool:
        """Runs one callback; False when none is ready."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle._cancelled:
                handle._run()
                if self._complaints:
                    raise self._complaints[0]
                return True
        return False

    def abandon(self) -> None:
        """As kill -9: nothing that waits in it is ever carried out. The coroutines are closed, so that no
        garbage collection does it at a moment of its own choice; what they do on the way must be without
        effect by then."""
        asyncio._set_running_loop(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # some were never begun
            self._close_all()
        self._ready.clear()
        self._scheduled.clear()
        self._closed = True

    def _close_all(self) -> None:
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            for _ in range(10):
                try:
                    coroutine.close()  # type: ignore[union-attr]
                except RuntimeError:
                    continue  # it waits for something on its way out; once more
                except BaseException:
                    pass  # it ends with an error: the dead do not complain
                break

    def __del__(self) -> None:
        """There is nothing to close."""

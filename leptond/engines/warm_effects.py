"""What an import does to its process beside defining modules.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone. :func:`capture` notes
the state of the process before and after an import. :func:`harm` says what makes it unsafe to have imported
before a fork. :class:`Effects` is the rest: registrations that a job would meet although it has not imported
anything; they are taken back, and made again when the job does import it."""

from __future__ import annotations

import _locale
import atexit
import builtins
import contextlib
import gc
import os
import resource
import signal
import sys
import threading
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

ALLOCATORS = frozenset({"jemalloc_bg_thd"})
"""Threads of memory allocators that know of forks: the child has none, and frees memory when it allocates."""

REGISTER = atexit.register

SYS = ("excepthook", "displayhook", "unraisablehook", "breakpointhook", "stdin", "stdout", "stderr")
"""Attributes of `sys` that imports replace."""
SYS_LISTS = ("path", "meta_path", "path_hooks")
WARNINGS = ("showwarning", "formatwarning", "_showwarnmsg_impl", "defaultaction")


class State:
    """The state of this process that imports are known to change. `fixed` must not change; the rest can be
    changed back."""

    def __init__(self) -> None:
        self.fixed = {name: look() for name, look in FIXED.items()}
        self.fds = open_fds()
        self.tasks = tasks()
        self.sys = {name: getattr(sys, name, None) for name in SYS}
        self.numbers = (sys.getrecursionlimit(), sys.getswitchinterval())
        self.lists = {name: list(getattr(sys, name)) for name in SYS_LISTS}
        self.builtins = dict(vars(builtins))
        self.filters = list(warnings.filters)
        self.warnings = {name: getattr(warnings, name, None) for name in WARNINGS}
        self.thread_hook = threading.excepthook
        self.loggers = _loggers()
        self.env = dict(os.environ)
        self.thread_exits = list(getattr(threading, "_threading_atexits", ()))


def open_fds() -> set[int]:
    """Return the descriptors that are open."""
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.fstat(fd)
        except OSError:
            continue  # it was of the listing
        found.add(fd)
    return found


def tasks() -> dict[int, str]:
    """Return the threads of this process with their names, but for those of allocators."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                name = file.read().strip()
        except OSError:
            continue  # it has ended
        if name not in ALLOCATORS:
            found[int(task)] = name
    return found


def handlers() -> list[object]:
    """Return how the process takes each signal."""
    return [signal.getsignal(number) for number in range(1, signal.NSIG)]


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _limits() -> list[object]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return [resource.getrlimit(getattr(resource, name)) for name in names]


def _module(name: str, look: Callable[[Any], object]) -> Callable[[], object]:
    """Return a look at a module's state; None where it is not loaded."""

    def state() -> object:
        module = sys.modules.get(name)
        return None if module is None else look(module)

    return state


def _children() -> str:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read()


def _numpy_random(module: Any) -> object:
    state = module._rand._bit_generator.state["state"]
    return {name: getattr(value, "tobytes", lambda v=value: v)() for name, value in state.items()}


def _torch_state(torch: Any) -> object:
    if not hasattr(torch, "default_generator"):
        return None  # it is being imported
    return (
        torch.default_generator.get_state().tolist(),
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


FIXED: dict[str, Callable[[], object]] = {
    "changes how the process takes signals": handlers,
    "changes the current directory": os.getcwd,
    "changes the umask": _umask,
    "changes resource limits": _limits,
    "changes the locale": lambda: [_locale.setlocale(kind, None) for kind in range(12)],
    "moves the process to other CPUs": lambda: os.sched_getaffinity(0),
    "changes the priority": lambda: (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)),
    "starts a process": _children,
    "starts a timer": lambda: [signal.getitimer(kind)[0] > 0 for kind in range(3)],
    "traces or profiles": lambda: (sys.gettrace(), sys.getprofile(), threading._profile_hook),
    "changes the garbage collector": lambda: (gc.isenabled(), gc.get_threshold(), list(gc.callbacks)),
    "draws random numbers": _module("random", lambda module: module.getstate()),
    "draws random numbers of numpy": _module("numpy.random.mtrand", _numpy_random),
    "changes settings of torch": _module("torch", _torch_state),
    "initializes CUDA": _module(
        "torch", lambda torch: hasattr(torch, "cuda") and bool(torch.cuda.is_initialized())
    ),
    "chooses how multiprocessing starts processes": _module(
        "multiprocessing.context", lambda module: module._default_context._actual_context
    ),
    "changes the timeout of sockets": _module("socket", lambda module: module.getdefaulttimeout()),
    "turns on faulthandler": _module("faulthandler", lambda module: module.is_enabled()),
}


def harm(before: State, after: State) -> str:
    """Return what an import has done that is unsafe before a fork, as the rest of a sentence; empty:
    nothing."""
    for what, value in before.fixed.items():
        if value is not None and after.fixed[what] != value:
            return what
    new = sorted(after.fds - before.fds)
    if new or before.fds - after.fds:
        links = [_link(fd) for fd in new]
        return "opens a socket" if any("socket:" in link for link in links) else "keeps files open"
    if set(after.tasks) - set(before.tasks) and (left := threads_left()):
        return f"starts a thread ({left}), which a fork would lose"
    return ""


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def threads_left() -> str:
    """Return the name of a thread that a fork would lose; empty: there is none. Libraries that know of forks
    (OpenBLAS) end their threads before one and start them anew when they need them; so one is made first."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return next((name for task, name in tasks().items() if task != os.getpid()), "")


def _loggers() -> dict[str, tuple[object, ...]]:
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "root"):
        return {}
    named = [*logging.Logger.manager.loggerDict.items(), ("", logging.root)]
    return {name: _logger_state(one) for name, one in named if isinstance(one, logging.Logger)}


def _logger_state(logger: Any) -> tuple[object, ...]:
    return (logger.level, logger.propagate, logger.disabled, list(logger.handlers), list(logger.filters))


PRISTINE: tuple[object, ...] = (0, True, False, [], [])
"""A logger as it is made."""


class Registrations:
    """Callbacks that are registered for the end of the process while :meth:`watching` lasts: atexit does not
    tell them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note what goes through ``atexit.register``."""
        plain = atexit.register

        def register(function: Any, /, *args: Any, **more: Any) -> Any:
            self.calls.append((function, args, more))
            return plain(function, *args, **more)

        atexit.register = register
        try:
            yield
        finally:
            atexit.register = plain


class Effects:
    """What an import has registered in the process. :meth:`undo` takes it back, :meth:`redo` makes it
    again."""

    def __init__(self, before: State, after: State, exits: Registrations) -> None:
        self.before, self.after, self.exits = before, after, list(exits.calls)
        self.loggers = {
            name: state
            for name, state in after.loggers.items()
            if before.loggers.get(name, PRISTINE) != state
        }
        self.new_loggers = [name for name in after.loggers if name not in before.loggers]
        self.thread_exits = [one for one in after.thread_exits if one not in before.thread_exits]
        self.env = {
            name: after.env.get(name)
            for name in before.env.keys() | after.env.keys()
            if before.env.get(name) != after.env.get(name)
        }
        self.attributes = [
            (place, name, old.get(name), value)
            for place, old, new in (
                (sys, before.sys, after.sys),
                (warnings, before.warnings, after.warnings),
                (builtins, before.builtins, after.builtins),
            )
            for name, value in new.items()
            if name != "_" and old.get(name) is not value
        ]
        self.empty = not (
            self.exits
            or self.loggers
            or self.new_loggers
            or self.thread_exits
            or self.env
            or self.attributes
            or before.filters != after.filters
            or before.lists != after.lists
            or before.numbers != after.numbers
            or before.thread_hook is not after.thread_hook
        )

    def undo(self) -> None:
        """Take it all back."""
        if self.empty:
            return
        before = self.before
        for function, _, _ in self.exits:
            atexit.unregister(function)
        exits = threading.__dict__.get("_threading_atexits", [])
        exits[:] = [one for one in exits if one not in self.thread_exits]
        for place, name, old, _ in self.attributes:
            if old is None and place is builtins:
                delattr(place, name)
            else:
                setattr(place, name, old)
        sys.setrecursionlimit(before.numbers[0])
        sys.setswitchinterval(before.numbers[1])
        for name, items in before.lists.items():
            getattr(sys, name)[:] = items
        threading.excepthook = before.thread_hook
        _set_filters(before.filters)
        for name in self.loggers:
            _set_logger(name, before.loggers.get(name, PRISTINE))
        for name in self.env:
            _set_variable(name, before.env.get(name))

    def redo(self) -> None:
        """Make it again, in a process whose owner may have changed other things meanwhile."""
        if self.empty:
            return
        before, after = self.before, self.after
        for function, args, more in self.exits:
            REGISTER(function, *args, **more)
        exits = threading.__dict__.get("_threading_atexits", [])
        exits.extend(one for one in self.thread_exits if one not in exits)
        for place, name, _, value in self.attributes:
            setattr(place, name, value)
        if before.numbers[0] != after.numbers[0]:
            sys.setrecursionlimit(after.numbers[0])
        if before.numbers[1] != after.numbers[1]:
            sys.setswitchinterval(after.numbers[1])
        for name, items in after.lists.items():
            if items != before.lists[name]:
                _merge(getattr(sys, name), before.lists[name], items)
        if before.thread_hook is not after.thread_hook:
            threading.excepthook = after.thread_hook
        if before.filters != after.filters:
            filters = list(warnings.filters)
            _merge(filters, before.filters, after.filters)
            _set_filters(filters)
        for name in self.new_loggers:
            _logger(name).disabled = False  # at its import it would have been new
        for name, state in self.loggers.items():
            _change_logger(name, before.loggers.get(name, PRISTINE), state)
        for name, value in self.env.items():
            _set_variable(name, value)


def _merge(now: list[Any], before: list[Any], after: list[Any]) -> None:
    """Put into `now` what came into `before` to make it `after`: at its front what came before all of it."""
    new = [one for one in after if one not in before]
    first = next((index for index, one in enumerate(after) if one in before), len(after))
    front = [one for one in after[:first] if one in new]
    now[:] = [one for one in now if one not in front]
    now[:0] = front
    now.extend(one for one in new if one not in front and one not in now)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    changed: Any = getattr(warnings, "_filters_mutated", None) or getattr(
        warnings, "_filters_mutated_lock_held", None
    )
    if changed is not None:
        with getattr(warnings, "_lock", contextlib.nullcontext()):
            changed()


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _logger(name: str) -> Any:
    logging: Any = sys.modules["logging"]
    return logging.root if name == "" else logging.getLogger(name)


def _set_logger(name: str, state: tuple[Any, ...]) -> None:
    logger = _logger(name)
    if logger.level != state[0]:
        logger.setLevel(state[0])
    logger.propagate, logger.disabled = state[1], state[2]
    logger.handlers[:], logger.filters[:] = state[3], state[4]


def _change_logger(name: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    """Change of a logger what the import has changed."""
    logger = _logger(name)
    if before[0] != after[0]:
        logger.setLevel(after[0])
    if before[1] != after[1]:
        logger.propagate = after[1]
    if before[2] != after[2]:
        logger.disabled = after[2]
    for place, old, new in ((logger.handlers, before[3], after[3]), (logger.filters, before[4], after[4])):
        place[:] = [one for one in place if one in new or one not in old]
        place.extend(one for one in new if one not in old and one not in place)

"""Runs a Python command in a process that has its imports behind it, as if it had been started anew.

Loaded by a zygote that was started with the job's own interpreter, in the job's environment; uses the
standard library alone. :func:`prepare` imports the modules on its list and notes what the imports depended
on. :func:`cold_reason` decides in the command's process if this job may run there; where it may not, the
process executes the command. :func:`run` is then the rest of the process's life.

Differences that a job can still see: its stack has two frames below ``<module>`` (faulthandler shows them,
and so does a failure of its own ``sys.excepthook``), more modules are in ``sys.modules``, what the imports
made is frozen for the garbage collector, and jobs of one warm process share a hash seed and the places of
libraries in memory."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import importlib.machinery
import os
import select
import signal
import stat
import sys
import threading
import time
import types
from typing import Any

PR_SET_DUMPABLE = 4
CHANGED = "packages have changed on disk"  # as in leptond.core.warm_start
OLDEST = (3, 10)
HIGH_FD = 64
"""Above the numbers that a shim puts its descriptors at."""
HUGE = 1 << 21
MADV_COLLAPSE = 25
CHANGES = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""The inotify events of a directory: writes, moves, creations, removals, its own end."""
LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "squashfs", "erofs"})
"""File systems of which every change is reported: no other machine writes them, and nothing lies below."""

reads: dict = {}  # type: ignore[type-arg]
"""Variables that the imports have read, with the values they found; None: unset."""
written: dict = {}  # type: ignore[type-arg]
"""Variables that the imports have left changed; None: removed."""
files: dict = {}  # type: ignore[type-arg]
tops: set = set()  # type: ignore[type-arg]
cpus: set = set()  # type: ignore[type-arg]
watch = -1
"""The inotify descriptor for changes on disk; -1: there is none."""


class Refused(Exception):
    """This environment cannot be kept warm: why."""


def prepare(imports: list, output: int) -> dict:  # type: ignore[type-arg]
    """Import those of `imports` that are installed. What is printed meanwhile arrives at the descriptor
    `output`, which is closed. Return facts for the daemon: ``refused`` is why this process is of no use."""
    try:
        _prepare(imports, output)
    except Refused as why:
        return {"refused": str(why)}
    except BaseException as failure:
        return {"refused": f"its imports fail: {type(failure).__name__}: {failure}"[:300]}
    return {"files": len(files)}


def _prepare(imports: list, output: int) -> None:  # type: ignore[type-arg]
    if sys.implementation.name != "cpython" or sys.version_info < OLDEST:
        raise Refused(f"its interpreter is older than {'.'.join(map(str, OLDEST))} or not CPython")
    fds, handlers, cwd = _fds(), _handlers(), os.getcwd()
    before = dict(os.environ)
    cpus.update(os.sched_getaffinity(0))
    found = False
    plain = type(os.environ)
    os.environ.__class__ = _recorder(plain)
    try:
        for name in imports:
            try:
                importlib.import_module(name)
                found = True
            except ModuleNotFoundError as missing:
                if missing.name != name.partition(".")[0]:
                    raise
    finally:
        os.environ.__class__ = plain
    if not found:
        raise Refused(f"it has none of {', '.join(imports)}")
    for name in before.keys() | os.environ.keys():
        if before.get(name) != os.environ.get(name):
            written[name] = os.environ.get(name)
    os.set_blocking(output, False)
    try:
        if os.read(output, 1):
            raise Refused("its imports print something")
    except BlockingIOError:
        pass
    os.close(output)
    if _fds() != fds - {output}:
        raise Refused("its imports keep files open")
    if _handlers() != handlers or os.getcwd() != cwd:
        raise Refused("its imports change how the process takes signals, or where it is")
    _alone()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        raise Refused("its imports initialize CUDA")
    _note_files()
    tops.update(name.partition(".")[0] for name in sys.modules)
    gc.collect()
    _collapse()
    gc.freeze()  # collections in the children do not touch, and so do not copy, what is here


def _collapse() -> None:
    """Put the memory into huge pages, where the kernel does that (Linux 6.1): a fork copies a page table
    entry for each page, and with huge ones it takes a third of the time."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as file:
        parts = [line.split() for line in file]
    for area, access, *_, name in ([*part[:2], part[5] if len(part) > 5 else ""] for part in parts):
        if access != "rw-p" or name not in ("", "[heap]"):
            continue
        begin, end = (int(word, 16) for word in area.split("-"))
        for start in range(-(-begin // HUGE) * HUGE, end - HUGE + 1, HUGE):
            madvise(start, HUGE, MADV_COLLAPSE)


def _recorder(plain: type) -> type:
    """Return a class for os.environ that also notes in `reads` what is read before it is written."""
    touched = set()

    class Recording(plain):  # type: ignore[misc]
        def __getitem__(self, name):  # type: ignore[no-untyped-def]
            value = self._data.get(self.encodekey(name))
            if name not in touched:
                reads.setdefault(name, None if value is None else self.decodevalue(value))
            return super().__getitem__(name)

        def __setitem__(self, name, value):  # type: ignore[no-untyped-def]
            touched.add(name)
            super().__setitem__(name, value)

        def __delitem__(self, name):  # type: ignore[no-untyped-def]
            touched.add(name)
            super().__delitem__(name)

        def __iter__(self):  # type: ignore[no-untyped-def]
            reads[""] = "all"
            return super().__iter__()

    Recording.__name__ = Recording.__qualname__ = plain.__name__
    return Recording


def _fds() -> set:  # type: ignore[type-arg]
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.fstat(fd)
        except OSError:
            continue  # it was of the listing
        found.add(fd)
    return found


def _handlers() -> list:  # type: ignore[type-arg]
    return [signal.getsignal(number) for number in range(1, signal.NSIG)]


def _alone() -> None:
    """Raise Refused where a fork would lose threads. Libraries that know of forks (OpenBLAS) end theirs
    before one and start them anew when they need them; so one is made first."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    if len(os.listdir("/proc/self/task")) > 1:
        raise Refused("its imports start threads, which a fork would lose")


def _note_files() -> None:
    """Note what would be read anew in a cold start: the files of all modules, the directories on their path,
    what configures the interpreter."""
    found = {sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(path, str) and os.path.isabs(path):
            found.add(path)
    for directory in sys.path:
        if os.path.isdir(directory):
            found.add(directory)
            found.update(
                os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".pth")
            )
    for path in found:
        files[path] = _state(path)
    _watch({path if os.path.isdir(path) else os.path.dirname(path) for path in found})


def _watch(directories: set) -> None:  # type: ignore[type-arg]
    """Have the kernel report changes in these directories, so that not every start has to check a thousand
    files. Where it cannot (no watches left, a file system whose files others write), `watch` stays -1."""
    global watch
    with open("/proc/self/mountinfo") as file:
        mounts = [line.partition(" - ") for line in file]
    kinds = {before.split()[4]: after.split()[0] for before, _, after in mounts}
    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    for directory in directories:
        mount = place = os.path.realpath(directory)
        while mount not in kinds and mount != "/":
            mount = os.path.dirname(mount)
        if kinds.get(mount) not in LOCAL or libc.inotify_add_watch(fd, os.fsencode(place), CHANGES) < 0:
            os.close(fd)
            return
    # checked once more: something may have changed before the watch
    if all(_state(path) == seen for path, seen in files.items()):
        watch = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    os.close(fd)


def _may_have_changed() -> bool:
    """Return True if the kernel may have reported a change. The report is not read: it stays there for every
    child, which then checks the files itself."""
    if watch < 0:
        return True
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(0))


def _state(path: str) -> object:
    try:
        seen = os.stat(path)
        if stat.S_ISDIR(seen.st_mode):
            names = os.listdir(path)
            return sorted(name for name in names if _importable(name))
    except OSError:
        return None
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def _importable(name: str) -> bool:
    return name.endswith((".py", ".so", ".pth")) or ("." not in name and name != "__pycache__")


# -- in the command's process -------------------------------------------------------------------------------


def cold_reason(launch: dict) -> str:  # type: ignore[type-arg]
    """Return why the command must start cold; empty when it may run here. The process is in the command's
    directory by now."""
    wanted, env = launch["warm"], launch["env"]
    if "" in reads:
        return "its imports look at the whole environment"
    for name, value in reads.items():
        if env.get(name) != value:
            return f"{name} is read by its imports and was different for the warm process"
    if _may_have_changed():
        for path, seen in files.items():
            if _state(path) != seen:
                return f"{CHANGED}: {path}"
    if wanted["how"] == "script":
        if not os.path.isfile(wanted["target"]) or wanted["target"].endswith(".pyc"):
            return f"{wanted['target']} is no script in a file"
        directory = os.path.dirname(os.path.realpath(wanted["target"]))
    else:
        directory = os.getcwd()
    try:
        names = os.listdir(directory)
    except OSError:
        return f"{directory} cannot be listed"
    for name in names:
        if name.partition(".")[0] in tops and (name.endswith((".py", ".so")) or "." not in name):
            path = os.path.join(directory, name)
            module = sys.modules.get(name.partition(".")[0])
            if os.path.isdir(path):
                path = os.path.join(path, "__init__.py")
            if os.path.exists(path) and path != getattr(module, "__file__", None):
                return f"{path} hides a module that was imported before"
    return ""


def run(launch: dict, show_as) -> None:  # type: ignore[type-arg, no-untyped-def]
    """Run the command from its first instruction. Returns, or raises what it raises; then the interpreter
    ends as it would have."""
    wanted, env, argv = launch["warm"], launch["env"], launch["argv"]
    _be_ordinary(env, argv, show_as)
    main = types.ModuleType("__main__")
    builtins = sys.modules["builtins"]
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    if sys.version_info >= (3, 14):
        del main.__dict__["__annotations__"]
    sys.modules["__main__"] = main
    how, target = wanted["how"], wanted["target"]
    try:
        if how == "module":
            sys.argv = ["-m", *wanted["args"]]
            sys.path.insert(0, os.getcwd())
            main.__loader__ = importlib.machinery.BuiltinImporter
            import runpy

            runpy._run_module_as_main(target)  # type: ignore[attr-defined]
            return
        if how == "code":
            sys.argv = ["-c", *wanted["args"]]
            sys.path.insert(0, "")
            main.__loader__ = importlib.machinery.BuiltinImporter
            code = compile(target, "<string>", "exec", dont_inherit=True)
        else:
            code = _script(main, target, wanted["args"])
        exec(code, main.__dict__)
    except BaseException:
        _hide_frames()
        raise


def _script(main, target: str, args: list):  # type: ignore[no-untyped-def, type-arg]
    sys.argv = [target, *args]
    sys.path.insert(0, os.path.dirname(os.path.realpath(target)))
    path = target if os.path.isabs(target) else os.path.join(os.getcwd(), target.removeprefix("./"))
    main.__file__ = path
    main.__dict__["__cached__"] = None
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    with open(path, "rb") as file:
        text = file.read()
    return compile(text, path, "exec", dont_inherit=True)


def _be_ordinary(env: dict, argv: list, show_as) -> None:  # type: ignore[type-arg, no-untyped-def]
    """Undo what differs in this process from one that was just executed."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for fd in _fds():
        if fd > 2:
            os.close(fd)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    os.environ.clear()
    os.environ.update(env)
    show_as(argv, env)
    for name, value in written.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    time.tzset()
    sys.orig_argv = list(argv)
    modules: Any = sys.modules
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
    if "logging" in modules:
        logging = modules["logging"]
        logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.ORIGINAL_DIR = os.getcwd()
        process.current_process().authkey = os.urandom(32)
    if "numpy.random" in modules:
        modules["numpy.random"].seed()  # Python's own generator sees to it by itself
    if "torch" in modules:
        modules["torch"].default_generator.seed()
    if os.sched_getaffinity(0) != cpus:
        _fit_threads(len(os.sched_getaffinity(0)), env)
    main: Any = threading.main_thread()
    if hasattr(main, "_set_native_id"):
        main._set_native_id()


def _fit_threads(count: int, env: dict) -> None:  # type: ignore[type-arg]
    """Resize the thread pools that libraries sized by the CPUs at their import."""
    names = set()
    with open("/proc/self/maps") as file:
        for line in file:
            words = line.split(maxsplit=5)
            if len(words) == 6 and ".so" in words[5]:
                names.add(words[5].strip())
    for path in sorted(names):
        name = os.path.basename(path)
        if name.startswith(("libgomp", "libomp", "libiomp")):
            if "OMP_NUM_THREADS" not in env:
                ctypes.CDLL(path).omp_set_num_threads(count)
        elif "openblas" in name and not {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & env.keys():
            library = ctypes.CDLL(path)
            for call in (
                "openblas_set_num_threads",
                "openblas_set_num_threads64_",
                "scipy_openblas_set_num_threads",
                "scipy_openblas_set_num_threads64_",
            ):
                if hasattr(library, call):
                    getattr(library, call)(count)
                    break


def _hide_frames() -> None:
    """Take our frames out of the traceback of the exception that ends the command, when it is shown."""
    shown = sys.excepthook

    def hook(kind, value, trace):  # type: ignore[no-untyped-def]
        sys.excepthook = shown
        while trace is not None and trace.tb_frame.f_code.co_filename in OURS:
            trace = trace.tb_next
        shown(kind, value.with_traceback(trace), trace)

    sys.excepthook = hook


OURS = (__file__, os.path.join(os.path.dirname(__file__), "zygote.py"))

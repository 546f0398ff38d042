"""Runs a Python command in a process that has its imports behind it, as if it had been started anew.

Loaded by a zygote that was started with the job's own interpreter, in the job's environment; uses the
standard library alone. :func:`cold_reason` decides in the command's process if this job may run there, by
what :mod:`leptond.engines.warm_imports` has noted; where it may not, the process executes the command.
:func:`run` is then the rest of the process's life.

Differences that a job can still see: its stack has two frames below ``<module>`` (faulthandler shows them,
and so does a failure of its own ``sys.excepthook``), more modules are in ``sys.modules``, what the imports
made is frozen for the garbage collector, and jobs of one warm process share a hash seed and the places of
libraries in memory."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import signal
import sys
import threading
import time
import tokenize
import types
from typing import Any

from leptond.core import python_command, script_settings
from leptond.engines import warm_effects, warm_files, warm_imports, warm_ranks

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
LEARNED = "not as learned"  # as in leptond.core.warm_start
CHANGED = "packages have changed on disk"  # as in leptond.core.warm_start


def cold_reason(launch: dict) -> str:  # type: ignore[type-arg]
    """Return why the command must start cold; empty when it may run here. The process is in the command's
    directory by now."""
    wanted, env = launch["warm"], launch["env"]
    name = warm_imports.reads.difference(env)
    if name:
        return f"{name} is read by its imports and was different for the warm process"
    warm_imports.park.changed = warm_files.may_have_changed()
    if warm_imports.park.changed:
        for path, seen in warm_files.files.items():
            if warm_files.file_state(path) != seen:
                return f"{CHANGED}: {path}"
    if wanted["how"] == "script":
        if not os.path.isfile(wanted["target"]) or wanted["target"].endswith(".pyc"):
            return f"{wanted['target']} is no script in a file"
        if wanted["first_line"] and not _is_started_by(wanted["target"], wanted["first_line"]):
            return f"{wanted['target']} has changed, or may not be executed"
        directory = os.path.dirname(os.path.realpath(wanted["target"]))
    else:
        directory = os.getcwd()
    try:
        names = os.listdir(directory)
    except OSError:
        return f"{directory} cannot be listed"
    for name in names:
        if name.partition(".")[0] in warm_imports.tops and (name.endswith((".py", ".so")) or "." not in name):
            path = os.path.join(directory, name)
            module = sys.modules.get(name.partition(".")[0])
            if "." not in name:
                path = os.path.join(path, "__init__.py")
            if os.path.exists(path) and path != getattr(module, "__file__", None):
                return f"{path} hides a module that was imported before"
    why = warm_imports.park.cold_reason(env, directory, names)
    if why:
        return f"{LEARNED}: {why}"
    return _set_too_early(wanted, directory, env)


def _set_too_early(wanted: dict, directory: str, env: dict) -> str:  # type: ignore[type-arg]
    """Return what the command's code sets before it imports what was imported here; empty: nothing."""
    sources: dict = {}  # type: ignore[type-arg]

    def beside(name: str):  # type: ignore[no-untyped-def]
        if name not in sources:
            sources[name] = _source_beside(os.path.join(directory, *name.split(".")))
        return sources[name]

    def matters(name: str) -> bool:
        return warm_imports.reads.has(name) or (
            bool(python_command.unseen({name: ""})) and not script_settings.LATE.match(name)
        )

    how, target = wanted["how"], wanted["target"]
    if how == "code":
        source = target
    elif how == "module":
        source = beside(target) or beside(f"{target}.__main__") or ""
    else:
        source = _text(target) or ""
    return script_settings.set_too_early(source, beside, warm_imports.roots, matters, env)


def _source_beside(path: str) -> str | None:
    return _text(f"{path}.py") if os.path.isfile(f"{path}.py") else _text(os.path.join(path, "__init__.py"))


def _text(path: str) -> str | None:
    """Return the text of a source; None where there is none that can be read."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _is_started_by(path: str, first_line: str) -> bool:
    """Return True if the kernel would start this script by this first line."""
    with open(path, "rb") as file:
        begin = file.read(len(os.fsencode(first_line)) + 1)
    return begin.rstrip(b"\n") == os.fsencode(first_line) and os.access(path, os.X_OK)


def run(launch: dict, show_as) -> None:  # type: ignore[type-arg, no-untyped-def]
    """Run the command from its first instruction. Returns, or raises what it raises; then the interpreter
    ends as it would have."""
    _be_ordinary(launch, show_as)
    while launch["warm"]["launches"]:
        rank = warm_ranks.offer(warm_imports.variables)
        if rank is None:
            break
        launch = rank
        if cold_reason(launch):
            os.execve(sys.executable, launch["argv"], launch["env"])
        _be_ordinary(launch, show_as)
    _close_all()
    wanted = launch["warm"]
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
    path = target if os.path.isabs(target) else os.path.join(os.getcwd(), target)
    main.__file__ = path
    main.__dict__["__cached__"] = None
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    with open(path, "rb") as file:
        text = file.read()
    return compile(text, path, "exec", dont_inherit=True)


def _close_all() -> None:
    for fd in warm_effects.open_fds():
        if fd > 2 and fd != warm_ranks.kept_fd:
            os.close(fd)


def _be_ordinary(launch: dict, show_as) -> None:  # type: ignore[type-arg, no-untyped-def]
    """Undo what differs in this process from one that was just executed, except what it has open."""
    env, argv = launch["env"], launch["warm"]["argv"]
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python starts
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    name = launch["warm"]["name"] or warm_imports.process_name
    prctl(PR_SET_NAME, os.fsencode(name)[:15], 0, 0, 0)
    os.environ.clear()
    os.environ.update(env)
    show_as(argv, env)
    for name, value in warm_imports.written.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    time.tzset()
    sys.orig_argv = list(argv)
    warm_imports.park.preparing = False
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
    if os.sched_getaffinity(0) != warm_imports.cpus:
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

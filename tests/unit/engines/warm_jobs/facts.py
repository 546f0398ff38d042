"""A job that prints what it can see of itself, as JSON: run twice, its lines are compared."""

import atexit
import faulthandler
import gc
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import threading

main = sys.modules["__main__"]
stat = open("/proc/self/stat").read().rpartition(") ")[2].split()
limits = {
    name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
}
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
same = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "path": sys.path,
    "executable": [sys.executable, sys._base_executable, sys.prefix, os.readlink("/proc/self/exe")],
    "flags": str(sys.flags),
    "warnoptions": sys.warnoptions,
    "main": sorted(main.__dict__),
    "name": [
        __name__,
        main.__dict__.get("__file__"),
        str(getattr(main.__spec__, "origin", None)),
        main.__package__,
        main.__doc__,
    ],
    "loader": str(main.__loader__).partition(" object")[0],
    "builtins": str(main.__builtins__)[:20],
    "cwd": os.getcwd(),
    "environ": sorted(set(os.environ)),
    "c_environ": sorted(
        line.partition("=")[0] for line in open("/proc/self/environ").read().split("\0")[:-1]
    ),
    "cmdline": open("/proc/self/cmdline").read().split("\0")[:-1],
    "comm": open("/proc/self/comm").read(),
    "fds": {fd: os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in ("0", "1", "2")},
    "open": len(os.listdir("/proc/self/fd")),
    "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "signals": [str(signal.getsignal(number)) for number in range(1, signal.NSIG)],
    "masks": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
    "tracer": [status["TracerPid"], status["Threads"]],
    "limits": dict(sorted(limits.items())),
    "umask": status["Umask"],
    "nice": [os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
    "oom": open("/proc/self/oom_score_adj").read(),
    "dumpable": os.stat("/proc/self/environ").st_uid == os.getuid(),
    "stdio": [
        [one.name, one.mode, one.encoding, one.errors, one.line_buffering, one.write_through, one.fileno()]
        for one in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "seekable": [sys.stdout.seekable(), type(sys.stdout.buffer).__name__, sys.stdout.isatty()],
    "hooks": [str(sys.excepthook), str(sys.displayhook), str(sys.unraisablehook)],
    "faulthandler": faulthandler.is_enabled(),
    "threads": [threading.main_thread() is threading.current_thread(), threading.active_count()],
    "native": threading.main_thread().native_id == os.getpid(),
    "tempdir": tempfile.gettempdir(),
    "cookie": os.environ["LEPTOND_ATTEMPT_ID"] in open("/proc/self/environ").read(),
    "tracing": [sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), sys.getswitchinterval()],
}
different = {
    "random": random.random(),
    "tempname": next(tempfile._get_candidate_names()),
    "warm": gc.get_freeze_count() > 1000,
    "attempt": os.environ["LEPTOND_ATTEMPT_ID"],
    "started": abs(__import__("time").time() - getattr(logging, "_startTime", 0)) < 60
    or logging._startTime > 1e12,
}
print(json.dumps({"same": same, "different": different}))
sys.stdout.flush()


@atexit.register
def last() -> None:
    print("atexit", flush=True)


def wait() -> None:
    done.wait()
    print("thread", flush=True)


done = threading.Event()
threading.Timer(0.05, done.set).start()
threading.Thread(target=wait).start()

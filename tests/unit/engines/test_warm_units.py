"""Packages that are imported before the fork and set aside: a job cannot tell, and what is unsafe is refused.
Small made packages in an environment of their own behave as those of the world do."""

# ruff: noqa: E501

import json
import re
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENGINES = HERE.parents[2] / "leptond" / "engines"

PACKAGES = {
    "first": "",
    "plain": "X = 1\n\ndef double(x):\n    return 2 * x",
    "plain.sub": "Y = 2",
    "needs_plain": "import plain\nfrom plain import sub\nZ = plain.X + sub.Y\n__all__ = ['Z']",
    "envy": "import os\nMODE = os.environ.get('ENVY_MODE', 'none')",
    "logger": "import logging\nLOG = logging.getLogger('logger')\nLOG.setLevel(logging.INFO)\n"
    "LOG.addHandler(logging.StreamHandler())\nLOG.propagate = False",
    "quieter": "import warnings\nwarnings.filterwarnings('ignore', message='quiet')",
    "warner": "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)",
    "exits": "import atexit\natexit.register(print, 'bye', flush=True)",
    "drawer": "import random\nNUMBER = random.getrandbits(24)",
    "where": "import os\nHERE = os.path.join(os.path.abspath(os.getcwd()), 'x')",
    "setter": "import os\nos.environ.setdefault('SET_BY_IMPORT', '1')",
    "hooker": "import sys\n\nclass Finder:\n    @staticmethod\n    def find_spec(*_):\n        return None\n\n"
    "sys.meta_path.append(Finder)\nsys.excepthook = lambda *_: print('hooked')\n"
    "sys.setrecursionlimit(1234)",
    "lookup": "import os\nFOUND = os.path.exists('lookup.cfg')",
    "lazy": "import sys, types\n\nclass Lazy(types.ModuleType):\n    def __getattr__(self, name):\n"
    "        if name == 'late':\n            import plain\n            return plain\n"
    "        raise AttributeError(name)\n\nsys.modules[__name__].__class__ = Lazy",
    "forking": "import os\nPID = 0\n\ndef mine():\n    global PID\n    PID = os.getpid()\n    return PID\n\nmine()",
}
SPACES = {"space.one": "ONE = 1", "space.two": "from space import one\nTWO = one.ONE + 1"}
UNSAFE = {
    "threader": ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
                 "starts a thread"),
    "printer": ("print('hello')", "prints something"),
    "keeper": ("import os\n\nclass Settings:\n    pid = os.getpid()", "keeps the process's id (keeper)"),
    "arguer": ("import sys\nNAME = sys.argv[0]", "looks at the program's arguments"),
    "socketer": ("import socket\nS = socket.socket()", "opens a socket"),
    "opener": ("F = open('/dev/null')", "keeps files open"),
    "whole": ("import os\nALL = dict(os.environ)", "looks at the whole environment"),
    "crasher": ("import os\nos._exit(3)", "ends the process"),
    "killer": ("import os\nos.kill(os.getpid(), 11)", "ends the process by signal 11"),
    "signaller": ("import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)", "takes signals"),
    "mover": ("import os\nos.chdir('/usr')", "changes the current directory"),
    "masker": ("import os\nos.umask(0o77)", "changes the umask"),
    "starter": ("import subprocess\nP = subprocess.Popen(['sleep', '600'])", "starts a process"),
    "seeder": ("import random\nrandom.seed(1)", "draws random numbers"),
    "collector": ("import gc\ngc.disable()", "changes the garbage collector"),
    "limiter": ("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))", "changes resource limits"),
    "failer": ("raise ValueError('no')", "fails when it is imported: ValueError: no"),
    "needs_threader": ("import threader", "starts a thread"),
}  # fmt: skip

SCRIPTS = {
    "nothing": """
        import sys, os, logging, warnings
        print([name for name in NAMES if name in sys.modules], len(warnings.filters), sys.getrecursionlimit())
        print(os.environ.get('SET_BY_IMPORT'), logging.getLogger('logger').handlers, len(sys.meta_path))
        print(sys.excepthook is sys.__excepthook__)
    """,
    "modules": """
        import sys, importlib, importlib.util, inspect, pickle, pkgutil
        print(importlib.util.find_spec('plain'), 'plain' in sys.modules)
        import needs_plain
        import plain
        print(plain, plain.__spec__, plain.__loader__, plain.__path__, plain.__cached__, plain.double.__module__)
        print(sys.modules['plain'] is plain, needs_plain.plain is plain, plain.sub.Y)
        print(inspect.getsource(plain.double), pickle.loads(pickle.dumps(plain.double)) is plain.double)
        print([m.name for m in pkgutil.iter_modules(plain.__path__)])
        plain.X = 5
        print(importlib.reload(plain).X, plain.__spec__)
        print({n: m for n, m in sys.modules.items() if n in NAMES or n.startswith('plain.')})
    """,
    "submodule": "import plain.sub as s\nimport sys\nprint(s.Y, sys.modules['plain'].sub is s)",
    "star": "from needs_plain import *\nprint(Z, sorted(n for n in globals() if len(n) == 1))",
    "lazy": "import sys, lazy\nprint('plain' in sys.modules, lazy.late.X, 'plain' in sys.modules, repr(lazy))",
    "environment": "import os\nos.environ['ENVY_MODE'] = 'mine'\nimport envy\nprint(envy.MODE)",
    "logging": """
        import logging, logging.config
        logging.getLogger('logger').setLevel(logging.ERROR)
        import logger
        logger.LOG.info('seen')
        print(logger.LOG, logger.LOG.handlers, logger.LOG.propagate)
    """,
    "logging_configured": """
        import logging, logging.config
        logging.config.dictConfig({'version': 1, 'disable_existing_loggers': True})
        import logger
        print(logger.LOG.disabled, logger.LOG.level)
        logger.LOG.info('seen')
    """,
    "filters": """
        import warnings
        warnings.simplefilter('error')
        import quieter
        warnings.warn('quiet please')
        try:
            warnings.warn('loud')
        except UserWarning as w:
            print('raised', w)
        print(warnings.filters)
    """,
    "warned": "import warnings\nwarnings.simplefilter('always')\nimport warner\nprint('after')",
    "warning_raised": """
        import warnings
        warnings.simplefilter('error')
        try:
            import warner
        except DeprecationWarning as w:
            print('raised', w)
        import sys
        print('warner' in sys.modules)
    """,
    "exits": "import atexit\natexit.register(print, 'first registered')\nimport exits\nprint('end')",
    "random": "import random\nrandom.seed(7)\nimport drawer\nprint(drawer.NUMBER < 1 << 24, random.random())",
    "directory": "import where\nprint(where.HERE)",
    "setter": "import os\nimport setter\nprint(os.environ['SET_BY_IMPORT'])",
    "set_before": "import os\nos.environ['SET_BY_IMPORT'] = '2'\nimport setter\nprint(os.environ['SET_BY_IMPORT'])",
    "hooks": "import sys, hooker\nprint(sys.meta_path[-1], sys.getrecursionlimit())\nraise SystemExit(sys.excepthook(1))",
    "path": """
        import os, sys
        sys.path.insert(0, os.path.abspath('other'))
        import needs_plain, plain
        print(os.path.relpath(plain.__file__), needs_plain.Z, sys.modules['plain'] is needs_plain.plain)
    """,
    "finder": """
        import importlib.machinery, sys
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                print('asked for', name)
        sys.meta_path.insert(0, Finder)
        import envy
        print(envy.MODE)
    """,
    "space": "import space.two, sys\nprint(space.two.TWO, space.__path__, sorted(n for n in sys.modules if 'space' in n))",
    "file": "open('lookup.cfg', 'w').close()\nimport lookup, os\nprint(lookup.FOUND)\nos.remove('lookup.cfg')",
    "threads": """
        import threading, sys
        def load():
            import needs_plain
            found.append(id(needs_plain))
        found = []
        threads = [threading.Thread(target=load) for _ in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        print(len(found), len(set(found)))
    """,
    "fork_aware": "import os, forking\nprint(forking.mine() == os.getpid())",
    "children": """
        import subprocess, sys
        import plain
        print(subprocess.run([sys.executable, '-c', 'import plain, sys; print(plain.X, sys.path[1:])'],
            capture_output=True, text=True).stdout)
    """,
    "unsafe": "import keeper, os\nprint(keeper.Settings.pid == os.getpid())",
}  # fmt: skip


class Made:
    """An environment with the packages, and a directory with the scripts."""

    def __init__(self, place: Path) -> None:
        venv.create(place / "env", symlinks=True)
        self.python = str(place / "env" / "bin" / "python")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = place / "env" / "lib" / version / "site-packages"
        names = {name for name in PACKAGES if f"{name}." in " ".join(PACKAGES)}
        for name, text in {**PACKAGES, **SPACES, **{k: v for k, (v, _) in UNSAFE.items()}}.items():
            path = self.site.joinpath(*name.split("."))
            path = path / "__init__.py" if name in names else path.with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n")
        self.jobs = place / "jobs"
        (self.jobs / "other").mkdir(parents=True)
        (self.jobs / "other" / "plain.py").write_text("X = 10\nclass sub: Y = 20\n")
        for name, text in SCRIPTS.items():
            head = f"NAMES = {sorted(PACKAGES)[:]!r}\nNAMES.remove('first')\n"
            (self.jobs / f"{name}_job.py").write_text(head + textwrap.dedent(text))
        # bytecode once, so that both ways find it
        self.cold("-m", "compileall", "-q", str(self.site))

    def cold(self, *argv: str) -> str:
        """The output of an interpreter of its own."""
        with subprocess.Popen(
            [self.python, *argv], cwd=self.jobs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as one:
            return one.communicate()[0]

    def prepared(self, plan: dict, *scripts: str) -> tuple[dict, list[str]]:
        """The report of a preparation, and the output of scripts in forks of it."""
        script = str(HERE / "warm_jobs" / "prepared.py")
        done = subprocess.run(
            [self.python, script, str(ENGINES), json.dumps(plan), *scripts],
            cwd=self.jobs,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report, *outputs = map(json.loads, done.stdout.splitlines())
        return report, outputs


def plan(names: list[str], why: str | None = None, **more) -> dict:
    """A plan of packages, as the daemon makes it."""
    units = [[name, [name], why] for name in names if "." not in name]
    units += [[f"{name.partition('.')[0]}.*", [name], why] for name in names if "." in name]
    return {"fingerprint": "", "later": {}, "units": units, "max_s": 60, "max_bytes": 1 << 30, **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def both(made):
    """The outputs of all scripts, cold and warm."""
    names = [name for name in (*PACKAGES, *SPACES, "keeper") if name != "first"]
    report, outputs = made.prepared(plan([*names, "space"]), *(f"{name}_job.py" for name in SCRIPTS))
    refused = {name: one["why"] for name, one in report["units"].items() if one["why"]}
    assert refused == {"keeper": "keeps the process's id (keeper)"}
    return {
        name: (made.cold(f"{name}_job.py"), output) for name, output in zip(SCRIPTS, outputs, strict=True)
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_job_cannot_tell(both, name):
    cold, warm = (re.sub(r"0x[0-9a-f]+", "0x", output) for output in both[name])
    assert cold
    assert warm == cold


def test_what_is_unsafe_is_found_and_refused(made):
    report, _ = made.prepared(plan([*UNSAFE, "plain"]))
    assert "refused" not in report, report
    for name, (_, why) in UNSAFE.items():
        assert why in report["units"][name]["why"], name
    assert report["units"]["plain"]["why"] == "", "what comes after them is tried all the same"


def test_known_reasons_are_not_tried_again(made):
    first, _ = made.prepared(plan(["plain", "crasher"]))
    known = plan(["plain"], why="", fingerprint=first["fingerprint"])
    known["units"].append(["crasher", ["crasher"], "ends the process"])
    again, _ = made.prepared(known)
    assert list(again["units"]) == ["plain"]


def test_time_and_memory_are_limited(made):
    slow, _ = made.prepared({**plan(["plain", "envy"]), "max_s": 0})
    assert {one["why"] for one in slow["units"].values()} == {"would take more time than imports may"}
    small, _ = made.prepared({**plan(["plain", "envy"]), "max_bytes": 0})
    assert small["units"]["envy"]["why"] == "would take more memory than imports may"


def test_a_bare_one_has_the_first_imports_alone(made):
    report, _ = made.prepared({"bare": True})
    assert (report["units"], report["later"]) == ({}, {})


def test_the_fingerprint_changes_with_an_installation(made):
    before, _ = made.prepared({"bare": True})
    (made.site / "new-1.0.dist-info").mkdir()
    after, _ = made.prepared({"bare": True})
    (made.site / "new-1.0.dist-info").rmdir()
    assert before["fingerprint"] != after["fingerprint"]


def test_a_job_that_would_have_had_others_starts_cold(made, tmp_path):
    (made.jobs / "envy.py").write_text("MODE = 'beside'\n")
    _, [output] = made.prepared(plan(["envy"]), "environment_job.py")
    (made.jobs / "envy.py").unlink()
    assert output == f"COLD {made.jobs}/envy.py hides envy, which was imported before\n"
    (made.jobs / "lookup.cfg").touch()
    _, [output] = made.prepared(plan(["lookup"]), "nothing_job.py")
    (made.jobs / "lookup.cfg").unlink()
    assert output == "COLD lookup was imported before, and there is a file lookup.cfg\n"

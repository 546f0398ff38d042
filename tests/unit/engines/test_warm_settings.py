"""Settings that a script makes before it imports a package have the effect that they have in a cold start:
each script runs cold and warm, and prints the same."""

import pytest

from tests.unit.engines.test_warm_pool import PYTHON, Bench

WITH_TORCH = {
    "threads": "os.environ['OMP_NUM_THREADS'] = '1'",
    "threads of the compiler": "os.environ['MKL_NUM_THREADS'] = '1'",
    "logs": "os.environ['TORCH_LOGS'] = '+dynamo'",
    "no compiler": "os.environ['TORCH_COMPILE_DISABLE'] = '1'",
    "allocator": "os.environ['PYTORCH_CUDA_ALLOC_CONF'] = 'expandable_segments:True'",
    "deterministic": "os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'",
    "devices": "os.environ['CUDA_VISIBLE_DEVICES'] = ''",
    "nccl": "os.environ['NCCL_DEBUG'] = 'INFO'",
    "tokenizers": "os.environ['TOKENIZERS_PARALLELISM'] = 'false'",
    "a default": "os.environ.setdefault('OMP_NUM_THREADS', '1')",
    "a loop": "for name in ('OMP_NUM_THREADS',):\n    os.environ[name] = '1'",
    "beside": "import settings",
    "errors": "import warnings\nwarnings.simplefilter('error')",
    "silence": "import warnings\nwarnings.filterwarnings('ignore')",
    "logging": "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})",
    "basic logging": "import logging\nlogging.basicConfig(level='DEBUG')",
    "level": "import logging\nlogging.getLogger('torch').setLevel('ERROR')",
    "cpus": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "mocked": "sys.modules['triton'] = None",
    "recursion": "sys.setrecursionlimit(5000)",
    "collector": "import gc\ngc.disable()",
    "seed": "import random\nrandom.seed(3)",
    "locale": "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
    "directory": "os.chdir('/')",
    "limits": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))",
    "faults": "import faulthandler\nfaulthandler.enable()",
    "path": "sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))",
    "shadow": "sys.path.insert(0, 'other')",
    "start method": "import multiprocessing\nmultiprocessing.set_start_method('spawn')",
}
SEEN = """
import gc, logging, random, resource, locale, faulthandler, warnings
warnings.warn("shown?", UserWarning) if "--warn" in sys.argv else None
compiled = []
if "compiler" in sys.argv:
    import torch._dynamo
    torch.compile(lambda x: x + 1, backend=lambda g, _: (compiled.append(1), g.forward)[1])(torch.ones(1))
names = ("torch", "torch._dynamo", "torch.distributed")
print(
    torch.get_num_threads(), sorted(name for name in os.environ if name.startswith(("OMP", "TORCH_", "MKL"))),
    [(n, logging.getLogger(n).level, logging.getLogger(n).disabled) for n in names], logging.root.level,
    [(one[0], one[2].__name__, one[1] and one[1].pattern) for one in warnings.filters],
    sys.getrecursionlimit(), gc.isenabled(), random.random() if "seed" in sys.argv else "",
    locale.setlocale(locale.LC_ALL), os.getcwd(),
    resource.getrlimit(resource.RLIMIT_NOFILE), faulthandler.is_enabled(), compiled, sys.path, torch.__file__,
)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_settings_before_torch(tmp_path):
    """All that scripts are known to set in their first lines."""
    pytest.importorskip("torch")
    one = Bench(tmp_path, LEPTOND_ENGINE__WARM_IMPORTS='["torch"]')
    one.script("import os\nos.environ['OMP_NUM_THREADS'] = '1'\n", "settings.py")
    (one.jobs / "other").mkdir()
    (one.jobs / "other" / "typing_extensions.py").write_text("raise ImportError('another one')\n")
    one.warm(PYTHON, "-c", "import torch")
    different, table = [], []
    for name, line in WITH_TORCH.items():
        one.script(f"import os, sys\n{line}\nimport torch\n{SEEN}", "job.py")
        words = [word for word in ("compiler", "seed") if word in name]
        cold, hot = (one.run(PYTHON, "job.py", *words, cold=cold, requeue=False) for cold in (True, False))
        table.append(f"{name:24} {hot['start']}")
        if (cold["output"], cold["exit_code"]) != (hot["output"], hot["exit_code"]):
            different.append((name, hot["start"], cold["output"][-600:], hot["output"][-600:]))
    print("\n".join(table))
    one.daemon.close()
    assert different == []


LINES = {
    "import os\nos.environ['NOTED_LEVEL'] = '7'": "cold: it sets NOTED_LEVEL before it imports noted",
    "import settings": "cold: it sets NOTED_LEVEL before it imports noted",
    "import os\nos.environ['NOT_NOTED'] = '7'": "warm",
    "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = ''": "warm",
}


def test_settings_before_an_import(tmp_path):
    one = Bench(tmp_path)
    one.script("import os\nos.environ['NOTED_LEVEL'] = '7'\n", "settings.py")
    one.warm(PYTHON, "-c", "pass")
    for line, start in LINES.items():
        one.script(f"{line}\nimport noted\nprint(noted.LEVEL)\n")
        found = one.run(PYTHON, "job.py")
        assert found["start"] == start
        assert found["output"] == ("none\n" if start == "warm" else "7\n")
        one.script(f"import noted\n{line}\nprint(noted.LEVEL)\n", "after.py")
        found = one.run(PYTHON, "after.py")
        assert (found["start"], found["output"]) == ("warm", "none\n")
    one.daemon.close()

"""The start of a training of two ranks under torchrun: until both are past `import torch`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import row
from tests.benchmarks.rows import Row
from tests.benchmarks.starts import Training, cold_and_warm
from tests.benchmarks.warm import IMPORT

RANKS = 2
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS))
JOBS = 5


def run(bench: Bench) -> list[Row]:
    """From the submit to the later of the two first lines, cold and warm. The floor is the same command by
    hand."""
    if find_spec("torch") is None:
        return [row("ranks", bench.load, (), note="torch is not installed")]
    training = Training(python=sys.executable, before=TORCHRUN, script=IMPORT, lines=RANKS, gpus=RANKS)
    return [cold_and_warm(bench, "ranks", training, JOBS)]

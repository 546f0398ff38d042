"""Whether a command looks like a training."""

import pytest

from leptond.core.admission.training import script_of, sign_of_training


@pytest.mark.parametrize(
    ("argv", "script"),
    [
        (["python", "train.py"], "train.py"),
        (["/opt/bin/python3.12", "-u", "-O", "a/train.py", "-m"], "a/train.py"),
        (["bash", "-e", "run.sh"], "run.sh"),
        (["./train"], "./train"),
        (["pythonic", "train.py"], "pythonic"),
        (["python", "-m", "trainer"], None),
        (["python", "-u", "-c", "import torch"], None),
        (["python"], None),
    ],
)
def test_the_script_of_a_command(argv, script):
    assert script_of(argv, shell=False) == script
    assert script_of(argv, shell=True) is None


@pytest.mark.parametrize(
    ("argv", "text", "sign"),
    [
        (["/opt/bin/torchrun", "x.py"], "", "it calls torchrun"),
        (["python", "-m", "torch.distributed.run", "x.py"], "", "it calls torch.distributed.run"),
        (["sh", "run.sh"], "exec accelerate launch x.py\n", "it calls accelerate launch"),
        (["python", "x.py"], "import os\n    from transformers import Trainer\n", "it imports transformers"),
        (["python", "x.py"], "import torchvision\n", None),
        (["python", "x.py"], "# import torch\nprint('import torch')\n", None),
        (["python", "x.py", "--out", "runs/torchrun"], "", None),
        (["python", "my-deepspeed"], "", None),
    ],
)
def test_the_sign_of_a_training(argv, text, sign):
    assert sign_of_training(argv, text) == sign

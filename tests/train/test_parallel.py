"""Whatever the plan, the training is the same: the loss curve of one process on the whole batch, and
checkpoints that any number of ranks goes on from."""

import shutil

import pytest

torch = pytest.importorskip("torch")

from leptond.train.gpt import TP_PLAN, Gpt, next_token_loss  # noqa: E402
from leptond.train.parallel import Parallel, Plan  # noqa: E402
from tests.train import ranks  # noqa: E402

pytestmark = pytest.mark.timeout(400)

STEPS, SAVED = 8, 4
LENGTH = {"steps": STEPS, "every": SAVED}
TOLERANCE = 1e-9
"""Relative, in double precision: sums go in another order, nothing else differs."""


@pytest.fixture(scope="module")
def alone():
    """The curve of one process."""
    return ranks.train(Plan(), None, **LENGTH)


FOUR = ["fsdp=2,tp=2", "dp=2,pp=2"]
GOES_ON = [("fsdp=2", "dp=2,pp=2"), ("tp=2", "fsdp=2,tp=2"), ("dp=2", "dp=2,pp=2")]
"""Plans of two ranks, and those of the four whose checkpoints they go on from."""


def trained_by_four(plans, directory):
    """Four ranks: curves by plan, and below `directory` their checkpoints of the middle."""
    pieces = [{"plan": plan, "directory": str(directory / plan), **LENGTH} for plan in plans]
    found = ranks.launch(4, pieces, directory)
    for plan in plans:
        (end,) = (directory / plan).glob(f"step-{STEPS:010d}*")
        shutil.rmtree(end)
    return {plan: one["losses"] for plan, one in zip(plans, found, strict=True)}


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A directory with the checkpoints of four ranks, and their curves."""
    directory = tmp_path_factory.mktemp("four")
    return directory, trained_by_four(FOUR, directory)


@pytest.fixture(scope="module")
def two(four, tmp_path_factory):
    """Two ranks: curves by plan, those that go on from four ranks' checkpoints, and a tuned one."""
    directory = tmp_path_factory.mktemp("two")
    plans = ["dp=2", "fsdp=2", "tp=2", "pp=2"]
    pieces = [{"plan": plan, **LENGTH} for plan in plans]
    for plan, source in GOES_ON:
        shutil.copytree(four[0] / source, directory / plan)
        pieces.append({"plan": plan, "directory": str(directory / plan), **LENGTH})
    pieces.append({"plan": "dp=2", "tune_at": 4, "lr": 1.5e-3, **LENGTH})
    return ranks.launch(2, pieces, directory)


def close(got, wanted):
    assert got == pytest.approx({step: wanted[step] for step in got}, rel=TOLERANCE)


@pytest.mark.parametrize(("place", "plan"), list(enumerate(["dp=2", "fsdp=2", "tp=2", "pp=2"])))
def test_the_curve_is_that_of_one_process_on_two_ranks(alone, two, place, plan):
    assert len(two[place]["losses"]) == STEPS
    close(two[place]["losses"], alone)
    assert min(alone.values()) < 0.9 * alone["0"], "it learns, so that the curve has something to say"


@pytest.mark.parametrize("plan", FOUR)
def test_the_curve_is_that_of_one_process_on_four_ranks(alone, four, plan):
    assert len(four[1][plan]) == STEPS
    close(four[1][plan], alone)


@pytest.mark.parametrize("place", [4 + index for index in range(len(GOES_ON))])
def test_two_ranks_go_on_from_a_checkpoint_of_four(alone, two, place):
    losses = two[place]["losses"]
    assert list(losses) == [str(step) for step in range(SAVED, STEPS)]
    close(losses, alone)


@pytest.mark.parametrize("source", FOUR)
def test_one_process_goes_on_from_a_checkpoint_of_four(alone, four, source, tmp_path):
    shutil.copytree(four[0] / source, tmp_path / "c")
    losses = ranks.train(Plan(), str(tmp_path / "c"), **LENGTH)
    assert list(losses) == [str(step) for step in range(SAVED, STEPS)]
    close(losses, alone)


@pytest.mark.slow  # more of the same: what tensor and data parallelism do alone is tested above
def test_data_and_tensor_parallelism_go_together(alone, tmp_path):
    curves = trained_by_four(["dp=2,tp=2"], tmp_path)
    close(curves["dp=2,tp=2"], alone)
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "dp=2,tp=2", tmp_path / name)
    found = ranks.launch(2, [{"plan": "tp=2", "directory": str(tmp_path / "two"), **LENGTH}], tmp_path)
    for losses in (ranks.train(Plan(), str(tmp_path / "one"), **LENGTH), found[0]["losses"]):
        assert list(losses) == [str(step) for step in range(SAVED, STEPS)]
        close(losses, alone)


def test_a_rate_is_tuned_in_the_same_step_on_every_rank(two):
    rates = two[7]["rates"]
    assert all(one[0] == one[1] for one in rates.values())
    assert rates["4"][0] > 5e-3
    assert rates["5"] == pytest.approx([1.5e-3] * 2, rel=1e-12)
    assert rates["6"][0] < 1.5e-3


def test_a_plan_reads_as_it_is_written():
    assert Plan.parse("dp=2 x tp=2, microbatches=4") == Plan(dp=2, tp=2, microbatches=4)
    assert str(Plan.parse(str(Plan(fsdp=4, pp=2)))) == "pp=2, fsdp=4"
    assert str(Plan()) == "one process"
    for bad in ("dp", "dp=x", "zz=2", "dp=-1", "dp=0"):
        with pytest.raises(ValueError, match=r"dp|zz"):
            Plan.parse(bad)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 4"), Parallel.start(Plan(dp=4)):
        pass
    with Parallel.start(Plan()) as parallel:
        model = parallel.wrap(Gpt(ranks.CONFIG), loss=next_token_loss, tp_plan=TP_PLAN)
        rows = torch.zeros(6, 16, dtype=torch.long)
        assert len(parallel.my_share((rows,))[0]) == 6
        loss = parallel.forward_backward(rows, rows)
        assert loss.item() == pytest.approx(next_token_loss(model(rows), rows).item(), rel=1e-6)
        assert parallel.clip_gradients(1e9) > 0

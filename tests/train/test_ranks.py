"""What several ranks decide, save and read together."""

import math
import os
import shutil
import signal
import threading
import time

import pytest

torch = pytest.importorskip("torch")

from leptond import job  # noqa: E402
from leptond.train import checkpoint, parallel, sharded  # noqa: E402
from leptond.train.checkpoint import CheckpointError, Checkpoints  # noqa: E402
from leptond.train.costs import Precision  # noqa: E402
from leptond.train.loop import Guard  # noqa: E402
from leptond.train.parallel import Plan  # noqa: E402
from tests.train import ranks  # noqa: E402
from tests.train.forks import errors, forked  # noqa: E402

pytestmark = pytest.mark.timeout(200)
EVERY = 3


@pytest.fixture(scope="module")
def alone():
    """The curve of one process."""
    return ranks.train(Plan(), None)


def close(got, wanted):
    assert got == pytest.approx({step: wanted[step] for step in got}, rel=1e-9)


def goes_on(plan, directory, place, alone, first):
    """The ranks of a plan go on from step `first` with what is in `directory`."""
    codes, found = forked(plan.world, lambda rank: ranks.train(plan, directory, every=EVERY), place)
    assert codes == [0] * plan.world, errors(place)
    for losses in found:
        assert list(losses) == [str(step) for step in range(first, ranks.STEPS)]
        close(losses, alone)


# -- killed while they write -----------------------------------------------------------------------------


def in_its_own_files(rank):
    plain = sharded.dcp.save

    def save(state, **more):
        if rank == 1 and "0000000006" in str(more["checkpoint_id"]):
            (more["checkpoint_id"] / "__1_0.distcp").write_bytes(b"half of it")
            assert threading.current_thread().name == "checkpoint", "in the background"
            os.kill(os.getpid(), signal.SIGKILL)
        plain(state, **more)

    sharded.dcp.save = save


def before_the_manifest(rank):
    plain = Checkpoints.finish

    def finish(self, temporary, step, *more):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, temporary, step, *more)

    Checkpoints.finish = finish


def before_it_is_renamed(rank):
    plain = checkpoint._sync

    def sync(directory):
        plain(directory)
        if "0000000006" in directory.name:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._sync = sync


@pytest.mark.parametrize(
    ("plan", "where"),
    [
        ("fsdp=2", in_its_own_files),
        ("dp=2", before_the_manifest),
        pytest.param("dp=2", before_it_is_renamed, marks=pytest.mark.slow),
    ],
)
def test_a_rank_killed_in_the_midst_of_a_write_costs_the_steps_since_the_one_before(
    tmp_path, alone, plan, where
):
    directory = str(tmp_path / "c")

    def work(rank):
        where(rank)
        return ranks.train(Plan.parse(plan), directory, every=EVERY)

    codes, found = forked(2, work, tmp_path / "first")
    killed = 1 if where is in_its_own_files else 0
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 99, "the other does not wait for ever"
    assert found == [None, None]
    goes_on(Plan.parse(plan), directory, tmp_path / "second", alone, EVERY)


def test_a_file_of_one_rank_that_is_rotten_falls_back(tmp_path, alone):
    directory = tmp_path / "c"
    plan = Plan(fsdp=2)
    codes, _ = forked(2, lambda rank: ranks.train(plan, str(directory), every=EVERY), tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    newest = sorted(directory.glob("step-*"))[-1]
    (part,) = newest.glob("__1_*.distcp")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    goes_on(plan, str(directory), tmp_path / "second", alone, ranks.STEPS - EVERY)


def test_the_training_goes_on_while_they_write_and_cannot_change_what_is_written(tmp_path, alone):
    directory = str(tmp_path / "c")
    plan = Plan(fsdp=2)

    def work(rank):
        plain, written = sharded.dcp.save, threading.Event()
        seen = {}

        def save(state, **more):
            step = int(more["checkpoint_id"].name[6:16])
            if step == 6:
                assert written.wait(60), "the training does not go on"
            plain(state, **more)

        def on_step(training):
            if training.step == 8:
                seen["writing"] = training.checkpoints._thread.is_alive()
                written.set()

        sharded.dcp.save = save
        ranks.train(plan, directory, on_step, every=6)
        return seen

    codes, found = forked(2, work, tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    assert found == [{"writing": True}] * 2
    shutil.rmtree(next((tmp_path / "c").glob(f"step-{ranks.STEPS:010d}*")))
    goes_on(plan, directory, tmp_path / "second", alone, 6)


def test_what_one_rank_cannot_write_is_told_to_all(tmp_path):
    directory = tmp_path / "c"

    def work(rank):
        plain = sharded.torch.save

        def save(value, file):
            if "rank-1" in str(file) and "0000000006" in str(file):
                raise OSError(28, "No space left on device")
            plain(value, file)

        sharded.torch.save = save
        try:
            ranks.train(Plan(dp=2), str(directory), every=6)
        except CheckpointError as error:
            return str(error)
        return None

    codes, found = forked(2, work, tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    assert found == [None, None], "a later one was written: nothing is lost"
    assert [path.name for path in sorted(directory.iterdir())] == [
        "step-0000000000.0000",
        f"step-{ranks.STEPS:010d}.0000",
    ]


# -- with a plan and without -----------------------------------------------------------------------------

MORE = [("dp=2", 6), ("tp=2", 6), ("fsdp=2", 0)]


@pytest.mark.parametrize(
    ("plan", "saved"),
    [("fsdp=2", 6), ("pp=2", 6), *(pytest.param(*more, marks=pytest.mark.slow) for more in MORE)],
)
def test_ranks_go_on_from_what_one_process_saved_without_a_plan(tmp_path, alone, plan, saved):
    ranks.train(Plan(), str(tmp_path / "c"), every=6)
    for later in (tmp_path / "c").glob("step-*"):
        if int(later.name[5:15]) > saved:
            shutil.rmtree(later)
    goes_on(Plan.parse(plan), str(tmp_path / "c"), tmp_path / "second", alone, saved)


@pytest.mark.slow  # from four ranks: test_parallel.py
def test_one_process_without_a_plan_goes_on_from_what_ranks_saved(tmp_path, alone):
    directory = tmp_path / "c"
    codes, _ = forked(2, lambda rank: ranks.train(Plan(fsdp=2), str(directory), every=6), tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    shutil.rmtree(next(directory.glob(f"step-{ranks.STEPS:010d}*")))
    losses = ranks.train(Plan(), str(directory), every=6)
    assert list(losses) == [str(step) for step in range(6, ranks.STEPS)]
    close(losses, alone)


# -- a wrong loss ----------------------------------------------------------------------------------------


def test_a_wrong_loss_of_one_rank_sends_all_back_together(tmp_path, alone):
    directory = str(tmp_path / "c")

    def work(rank):
        path, left = [], [1, 1]

        def on_step(training):
            path.append((training.step, training.generation, training.schedule.rate))

        def loss_at(step, loss):
            # rank 1 alone: first not a number, later a jump
            if rank == 1 and step == 5 and left[0]:
                left[0] = 0
                return loss * math.nan
            if rank == 1 and step == 10 and left[1]:
                left[1] = 0
                return loss * math.inf
            return loss

        losses = ranks.train(Plan(dp=2), directory, on_step, every=EVERY, guard=Guard(), loss_at=loss_at)
        return path, losses

    codes, found = forked(2, work, tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    assert found[0] == found[1], "every step, generation, rate and loss"
    path, _ = found[0]
    steps = [step for step, *_ in path]
    assert steps == [*range(6), *range(3, 11), *range(9, 12)]
    rates = {(step, generation): rate for step, generation, rate in path}
    assert rates[3, 1] == pytest.approx(rates[3, 0] / 2)
    assert rates[9, 2] == pytest.approx(rates[9, 1] / 2)


def test_a_loss_that_stays_wrong_on_one_rank_ends_all_as_diverged(tmp_path):
    directory = str(tmp_path / "c")

    def work(rank):
        ranks.train(
            Plan(fsdp=2),
            directory,
            every=EVERY,
            guard=Guard(most=2),
            loss_at=lambda step, loss: loss * math.nan if rank == 1 and step == 7 else loss,
        )

    began = time.monotonic()
    codes, _ = forked(2, work, tmp_path / "first")
    assert codes == [job.EXIT_DIVERGED] * 2, errors(tmp_path / "first")
    assert time.monotonic() - began < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan", ["fsdp=2,pp=2", "tp=2,pp=2", "dp=2,fsdp=2", "pp=4", "dp=2,tp=2,pp=2", "dp=2,fsdp=2,pp=2"]
)
def test_kinds_of_parallelism_go_together(tmp_path, alone, plan):
    plan = Plan.parse(plan)
    codes, found = forked(plan.world, lambda rank: ranks.train(plan, None), tmp_path)
    assert codes == [0] * plan.world, errors(tmp_path)
    for losses in found:
        close(losses, alone)


# -- half precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [pytest.param("dp=2", marks=pytest.mark.slow), "fsdp=2"])
def test_a_gradient_that_overflows_on_one_rank_is_left_out_by_all(tmp_path, plan):
    def work(rank):
        seen = {}

        def on_step(training):
            seen["training"] = training
            seen[training.step] = training.precision.scaler.get_scale()

        def loss_at(step, loss):
            if step == 4 and (rank == 1 or plan == "dp=2"):  # copies have the same gradients
                grad = next(iter(seen["training"].model.parameters())).grad
                getattr(grad, "_local_tensor", grad).view(-1)[0] = math.inf
            return loss

        losses = ranks.train(
            Plan.parse(plan), str(tmp_path / "c"), on_step, loss_at=loss_at, precision=Precision("fp16")
        )
        training = seen.pop("training")
        return seen[4], seen[5], training.skipped, losses

    codes, found = forked(2, work, tmp_path / "first")
    assert codes == [0, 0], errors(tmp_path / "first")
    assert found[0] == found[1]
    before, after, skipped, losses = found[0]
    assert (after, skipped) == (before / 2, 1)
    assert all(math.isfinite(loss) for loss in losses.values())
    assert losses["11"] < losses["0"]


def test_what_torch_cannot_do_together_is_refused():
    for plan, word in (("pp=2", "pp"), ("tp=2", "tp")):
        with pytest.raises(ValueError, match=f"does not go with {word}.* take bf16"):
            parallel._check_precision(Precision("fp16"), Plan.parse(plan))
    parallel._check_precision(Precision("bf16"), Plan(tp=2, pp=2))
    parallel._check_precision(None, Plan(pp=2))


@pytest.mark.parametrize("plan", [pytest.param("tp=2", marks=pytest.mark.slow), "pp=2"])
def test_mixed_precision_goes_with_a_plan(tmp_path, plan):
    wanted = ranks.train(Plan(), None, precision=Precision("bf16"))
    plain = ranks.train(Plan(), None, precision=Precision("fp32"))
    assert wanted != plain
    codes, found = forked(
        2, lambda rank: ranks.train(Plan.parse(plan), None, precision=Precision("bf16")), tmp_path
    )
    assert codes == [0, 0], errors(tmp_path)
    assert found[0] == pytest.approx(wanted, rel=2e-3), "bfloat16 has three digits"
    assert found[0] != pytest.approx(plain, rel=1e-7), "it is not single precision"

"""Habits that save money change nothing else: the same gradients, the same order, the same batch."""

import json
import sys

import pytest

torch = pytest.importorskip("torch")

from leptond import job  # noqa: E402
from leptond.train import measure  # noqa: E402
from leptond.train.costs import (  # noqa: E402
    Loader,
    Precision,
    ShrinkingBatch,
    compile_parts,
    micro_batches,
    recompute,
)
from leptond.train.gpt import Gpt, next_token_loss  # noqa: E402
from leptond.train.planning import Degrees, Machine, Shape, candidates, choose, estimate  # noqa: E402
from leptond.train.profiling import profile  # noqa: E402
from tests.train.small import CONFIG, batch_of  # noqa: E402


def gradients(model, parts=1):
    model.zero_grad()
    torch.manual_seed(3)
    for share, (rows, following) in micro_batches(batch_of(0), parts):
        (share * next_token_loss(model(rows), following)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Gpt(CONFIG).double().eval()


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_accumulation_gives_the_gradients_of_the_whole_batch(model, parts):
    torch.testing.assert_close(gradients(model, parts), gradients(model), rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="cannot be cut"):
        next(micro_batches(batch_of(0), 17))


def test_recomputed_activations_give_the_same_gradients_from_less_memory(model):
    model.train()  # with dropout: the second computation throws the same dice
    plain = gradients(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    rows, following = batch_of(0)
    before = profile(model, optimizer, lambda: next_token_loss(model(rows), following), steps=1)
    names = list(model.state_dict())
    recompute(model)
    assert torch.equal(gradients(model), plain)
    after = profile(model, optimizer, lambda: next_token_loss(model(rows), following), steps=1)
    assert after.activation_bytes < before.activation_bytes / 2
    assert list(model.state_dict()) == names


@pytest.mark.slow  # importing the compiler alone takes seconds
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_parts_give_the_same_and_keep_their_names(model):
    plain, names = gradients(model), list(model.state_dict())
    compile_parts(model, backend="eager")
    torch.testing.assert_close(gradients(model), plain)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_by_name_trains(name):
    torch.manual_seed(1)
    model, precision = Gpt(CONFIG), Precision(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        rows, following = batch_of(0)
        with precision.forward():
            scores = model(rows)
            loss = next_token_loss(scores, following)
        assert scores.dtype == (torch.bfloat16 if name == "bf16" else torch.float32)
        optimizer.zero_grad()
        precision.backward(loss)
        precision.step(optimizer, clip=1.0)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    Precision(name).load_state_dict(precision.state_dict())
    with pytest.raises(ValueError, match="no precision"):
        Precision("fp8")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_the_training_was(workers):
    data = list(range(23))
    whole = Loader(data, 4, seed=5)
    wanted = [next(whole).tolist() for _ in range(12)]
    assert len({row for batch in wanted[:5] for row in batch}) == 20, "no row twice in one time through"
    assert wanted[:5] != wanted[5:10]
    begun = Loader(data, 4, seed=5, workers=workers)
    for _ in range(7):
        next(begun)
    again = Loader(data, 4, seed=5, workers=workers)
    again.load_state_dict(begun.state_dict())
    dice = torch.get_rng_state()
    assert [next(again).tolist() for _ in range(5)] == wanted[7:]
    assert torch.equal(torch.get_rng_state(), dice), "a resume leaves the dice of the model alone"


def test_a_batch_that_does_not_fit_shrinks_and_stays_whole(tmp_path):
    def attempt(fits):
        shrinking = ShrinkingBatch(tmp_path, 16)
        with shrinking.watch():
            parts = list(micro_batches(batch_of(0), shrinking.parts))
            if max(len(part[0]) for _, part in parts) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return shrinking.parts, sum(share for share, _ in parts)

    for parts in (2, 4):
        with pytest.raises(SystemExit) as left:
            attempt(fits=5)
        assert left.value.code == job.EXIT_RESUME
        assert json.loads((tmp_path / ShrinkingBatch.FILE).read_text()) == {"parts": parts}
    assert attempt(fits=5) == (4, pytest.approx(1.0))
    for _ in range(2):
        with pytest.raises(SystemExit):
            attempt(fits=0)
    with pytest.raises(torch.OutOfMemoryError):
        attempt(fits=0)
    (tmp_path / ShrinkingBatch.FILE).write_text("{")
    assert ShrinkingBatch(tmp_path, 16).parts == 1


# -- plans -----------------------------------------------------------------------------------------------

GIB = 1 << 30
SMALL = Shape(layers=12, width=768, heads=12, context=1024, vocabulary=50_304, batch=64)
LARGE = Shape(layers=32, width=4096, heads=32, context=4096, vocabulary=32_000, batch=16, recompute=True)


@pytest.mark.parametrize("size", [(4, 64, 4, 64, 8), (2, 128, 8, 128, 4)])
def test_the_memory_formula_is_what_a_step_takes(size):
    layers, width, heads, context, batch = size
    shape = Shape(
        layers=layers,
        width=width,
        heads=heads,
        context=context,
        vocabulary=128,
        batch=batch,
        bytes_per_value=4,
    )
    config = type(CONFIG)(layers=layers, width=width, heads=heads, context=context)
    model = Gpt(config)
    rows = torch.zeros(batch, context, dtype=torch.long)
    seen = profile(
        model,
        torch.optim.AdamW(model.parameters()),
        lambda: next_token_loss(model(rows), rows),
        steps=1,
    )
    told = estimate(shape, Degrees(), Machine(gpus=1, memory_bytes=GIB))
    assert seen.parameters == shape.parameters
    assert seen.state_bytes == pytest.approx(told.state_bytes, rel=1e-3)
    assert seen.activation_bytes == pytest.approx(told.activation_bytes, rel=0.15)


def test_the_cheapest_plan_that_fits_is_chosen():
    roomy = Machine(gpus=8, memory_bytes=80 * GIB)
    assert choose(SMALL, roomy)[0].plan == Degrees(), "one GPU wastes nothing on talking"
    tight = Machine(gpus=8, memory_bytes=40 * GIB)
    best = choose(LARGE, tight)[0]
    assert best.plan.world > 1
    assert best.memory_bytes <= 40 * GIB
    assert not estimate(LARGE, Degrees(), tight).fits
    assert not estimate(LARGE, Degrees(dp=8), tight).fits, "copies do not make a model smaller"
    assert choose(LARGE, Machine(gpus=1, memory_bytes=8 * GIB)) == []
    slow = choose(SMALL, roomy)[0].step_s
    hurried = choose(SMALL, roomy, deadline_s=slow / 3)
    assert hurried
    assert all(one.step_s <= slow / 3 and one.plan.world > 2 for one in hurried)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_every_plan_can_be_carried_out(shape, gpus):
    machine = Machine(gpus=gpus, memory_bytes=80 * GIB)
    plans = list(candidates(shape, machine))
    assert Degrees() in plans
    assert len(plans) == len(set(map(str, plans)))
    for plan in plans:
        assert plan.world <= gpus
        assert shape.batch % (plan.dp * plan.fsdp) == 0
        assert shape.heads % plan.tp == 0
    for kind in ("fsdp", "tp", "pp"):
        one, two = (estimate(LARGE, Degrees(**{kind: n}), machine).state_bytes for n in (1, 2))
        assert two < 0.75 * one, f"{kind} makes each share smaller"


# -- measured --------------------------------------------------------------------------------------------


def test_what_the_switches_bring_is_measured(monkeypatch, capsys):
    sizes = ["--width", "64", "--layers", "6", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["measure", "--json", "--only", "accumulate,recompute", *sizes])
    measure.main()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["switch"] for one in found] == ["accumulate", "recompute"]
    for one in found:
        assert 0 < one["with_bytes"] < 0.85 * one["plain_bytes"]
        assert one["ratio"] == pytest.approx(one["with_s"] / one["plain_s"])
    monkeypatch.setattr(sys, "argv", ["measure", "--only", "magic"])
    with pytest.raises(SystemExit) as left:
        measure.main()
    assert left.value.code == 2
    assert "the switches are bf16" in capsys.readouterr().err

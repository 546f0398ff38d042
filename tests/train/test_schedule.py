"""Each schedule against its closed formula over a thousand steps, without and with a save and a resume on the
way; and rates that are changed while it runs."""

import math

import pytest

torch = pytest.importorskip("torch")

from leptond.train.schedule import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule  # noqa: E402

STEPS = 1000
LR = 0.02


def loss_at(step):
    """A loss that gets better, then stands still, then gets better again: what a plateau is about."""
    return 1.0 if 300 <= step < 600 else 2.0 - step / 1000


def plateau(gamma, patience):
    """The rule in its own words: a step without a better loss is bad; more than `patience` of them in a row
    lower the rate and begin the count again. Better means by a ten-thousandth."""
    rate, best, bad, rates = LR, math.inf, 0, []
    for step in range(STEPS):
        rates.append(rate)
        if loss_at(step) < best * (1 - 1e-4):
            best, bad = loss_at(step), 0
        else:
            bad += 1
        if bad > patience:
            rate, bad = rate * gamma, 0
    return rates


def one_cycle(step, warmup, peak):
    """Smith & Topin (arXiv 1708.07120) with cosines, as torch spells it."""
    up, low, last = warmup - 1, LR / peak, LR / peak / 1e4
    half = lambda a, b, done: b + (a - b) / 2 * (1 + math.cos(math.pi * done))  # noqa: E731
    return half(low, LR, step / up) if step <= up else half(LR, last, (step - up) / (STEPS - 1 - up))


def after_warmup(warmup, factor):
    return [LR * ((t + 1) / warmup if t < warmup else factor(t - warmup)) for t in range(STEPS)]


FORMULAS = {
    "constant": ({}, [LR] * STEPS),
    "constant, warmed up": ({"warmup": 50}, after_warmup(50, lambda t: 1.0)),
    "step": ({"every": 170, "gamma": 0.5}, [LR * 0.5 ** (t // 170) for t in range(STEPS)]),
    "exponential": ({"gamma": 0.997}, [LR * 0.997**t for t in range(STEPS)]),
    "cosine": (
        {"warmup": 100, "floor": 0.1},
        after_warmup(100, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 900)) / 2),
    ),
    "wsd": (
        {"warmup": 100, "decay": 300, "floor": 0.05},
        after_warmup(100, lambda t: 0.05 + 0.95 * (1 - math.sqrt(max(0, t - 600) / 300))),
    ),
    "plateau": ({"gamma": 0.8, "patience": 30}, plateau(0.8, 30)),
    "one-cycle": ({"warmup": 250, "peak": 10.0}, [one_cycle(t, 250, 10.0) for t in range(STEPS)]),
}


def make(name, options):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer("sgd", [weight], lr=LR)
    return optimizer, make_schedule(name.partition(",")[0], optimizer, total=STEPS, **options)


def run(optimizer, schedule, first, last):
    rates = []
    for step in range(first, last):
        rates.append(optimizer.param_groups[0]["lr"])
        assert schedule.rate == rates[-1]
        optimizer.step()
        schedule.step(loss_at(step))
    return rates


def test_every_schedule_is_here():
    assert {name.partition(",")[0] for name in FORMULAS} == set(SCHEDULES)


@pytest.mark.filterwarnings("ignore:.*number of steps.*")
@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_is_its_formula_also_over_a_resume(name):
    options, formula = FORMULAS[name]
    rates = run(*make(name, options), 0, STEPS)
    assert rates == pytest.approx(formula, rel=1e-9)
    for cut in (1, 333, 999):
        optimizer, schedule = make(name, options)
        begun = run(optimizer, schedule, 0, cut)
        saved = optimizer.state_dict(), schedule.state_dict()
        optimizer, schedule = make(name, options)
        optimizer.load_state_dict(saved[0])
        schedule.load_state_dict(saved[1])
        assert begun + run(optimizer, schedule, cut, STEPS) == rates, cut


@pytest.mark.filterwarnings("ignore:.*number of steps.*")
@pytest.mark.parametrize("name", FORMULAS)
def test_a_rate_that_is_set_counts_at_once_and_the_shape_stays(name):
    options, formula = FORMULAS[name]
    optimizer, schedule = make(name, options)
    run(optimizer, schedule, 0, 400)
    schedule.set_rate(1e-3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    factor = 1e-3 / formula[400]
    saved = optimizer.state_dict(), schedule.state_dict()
    optimizer, schedule = make(name, options)
    optimizer.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    assert run(optimizer, schedule, 400, STEPS) == pytest.approx(
        [rate * factor for rate in formula[400:]], rel=1e-9
    )
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="not a learning rate"):
            schedule.set_rate(bad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_name_learns_and_resumes_exactly(name):
    def learn(optimizer, weight, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            ((weight - 3.0) ** 2).sum().backward()
            optimizer.step()

    def fresh():
        weight = torch.nn.Parameter(torch.zeros(4, 4))
        return weight, make_optimizer(name, [weight], lr=0.05)

    weight, optimizer = fresh()
    learn(optimizer, weight, 20)
    assert ((weight - 3.0) ** 2).sum() < 144.0
    other, again = fresh()
    learn(again, other, 7)
    resumed, third = fresh()
    resumed.data.copy_(other.data)
    third.load_state_dict(again.state_dict())
    learn(third, resumed, 13)
    assert torch.equal(resumed, weight)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sine", {}),
        ("step", {}),
        ("step", {"every": 5, "warmup": 3}),
        ("cosine", {"warmup": 2000}),
        ("cosine", {"floor": 2.0}),
    ],
)
def test_what_is_no_schedule_is_refused(name, options):
    with pytest.raises(ValueError, match="schedule"):
        make(name, options)
    with pytest.raises(ValueError, match="no optimizer"):
        make_optimizer("adamm", [torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_a_checkpoint_of_another_schedule_is_refused():
    _, cosine = make("cosine", {})
    _, constant = make("constant", {})
    with pytest.raises(ValueError, match="cosine, not constant"):
        constant.load_state_dict(cosine.state_dict())

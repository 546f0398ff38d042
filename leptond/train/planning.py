"""Which parallel plan a model needs on so many GPUs: what fits, and what is cheapest. Arithmetic only.

Memory of one rank, in bytes:

- Weights, gradients and optimizer state: 16 a parameter with Adam, whether all in single precision
  (4 + 4 + 8) or mixed (2 + 2 + 12: master weights and two moments; Rajbhandari et al., ZeRO, arXiv
  1910.02054, section 3.1). `tp` and `pp` divide it, `fsdp` divides what is left; one part of the model is
  whole while it runs.
- Activations of a decoder layer in 16 bits: s b h (34 + 5 a s / h), for sequences of s, microbatches of b
  rows, width h and a heads (Korthikanti et al., arXiv 2205.05198, equation 1); s b h (10 + 24 / t + 5 a s /
  (h t)) with tensor parallelism t (equation 2); 2 s b h with full recomputation. Fused attention keeps no
  scores, so the term with 5 a s / h falls away. In 32 bits they double.
- The scores of the vocabulary: s b v in 32 bits, twice (they and their gradients).
- `RESERVE_BYTES` for the context and the allocator.

:func:`leptond.train.profiling.profile` measures a real step against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

STATE_BYTES = 16
RESERVE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder-only transformer and its batch. `batch` is the whole batch of a step, in rows."""

    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    batch: int
    feed_forward: int = 0  # 0: four times the width
    bytes_per_value: int = 2
    recompute: bool = False
    fused_attention: bool = True

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer: four square matrices of attention, two of the feed-forward part, and norms
        and biases."""
        hidden = self.feed_forward or 4 * self.width
        return 4 * self.width**2 + 2 * self.width * hidden + hidden + 5 * self.width

    @property
    def outer_parameters(self) -> int:
        """Weights of embedding and head."""
        return (2 * self.vocabulary + self.context + 2) * self.width

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.layers * self.layer_parameters + self.outer_parameters

    @property
    def flops(self) -> float:
        """Of a step: 6 a weight and token (forward 2, backward 4; Kaplan et al., arXiv 2001.08361), and a
        third more with recomputation."""
        weights = self.layers * self.layer_parameters + self.vocabulary * self.width
        return (8.0 if self.recompute else 6.0) * weights * self.batch * self.context


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs: how many, their memory, and what they do in a second. `flops` is what a training reaches,
    not what the data sheet says; `link_bytes_s` is between two of them."""

    gpus: int
    memory_bytes: int
    flops: float = 1.2e14
    link_bytes_s: float = 2.0e10


@dataclass(frozen=True, kw_only=True)
class Degrees:
    """A plan as numbers; :class:`leptond.train.parallel.Plan` takes the same."""

    dp: int = 1
    fsdp: int = 1
    tp: int = 1
    pp: int = 1
    microbatches: int = 0

    @property
    def world(self) -> int:
        """The number of GPUs of the plan."""
        return self.dp * self.fsdp * self.tp * self.pp


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A plan with what it needs on each GPU and what a step takes. `gpu_s` is what the step costs."""

    plan: Degrees
    state_bytes: float
    activation_bytes: float
    memory_bytes: float
    step_s: float
    fits: bool

    @property
    def gpu_s(self) -> float:
        """GPU-seconds a step."""
        return self.step_s * self.plan.world


def activation_bytes(shape: Shape, rows: float, tp: int = 1) -> float:
    """Of one layer, for a microbatch of `rows` rows."""
    base = shape.context * rows * shape.width
    if shape.recompute:
        return base * shape.bytes_per_value
    # equation 2 in values: 10 + 24/t bytes are 5 + 12/t values of 2 bytes, less the masks of dropout
    scores = 0.0 if shape.fused_attention else 5 * shape.heads * shape.context / (shape.width * tp)
    return base * (10 + 24 / tp + scores) * shape.bytes_per_value / 2


def estimate(shape: Shape, plan: Degrees, machine: Machine) -> Estimate:
    """The memory and the time of a plan. The batch is shared by dp and fsdp."""
    layers = -(-shape.layers // plan.pp)  # of the fullest stage
    own = layers * shape.layer_parameters / plan.tp
    outer = shape.outer_parameters if plan.pp == 1 else shape.outer_parameters / 2
    state = STATE_BYTES * (own + outer) / plan.fsdp
    if plan.fsdp > 1:
        # one part is gathered whole, with its gradients, while it runs
        largest = max(shape.layer_parameters / plan.tp, outer)
        state += 2 * shape.bytes_per_value * largest
    rows = shape.batch / (plan.dp * plan.fsdp)
    parts = (plan.microbatches or 2 * plan.pp) if plan.pp > 1 else 1
    micro = rows / parts
    # GPipe keeps the activations of every microbatch until their way back
    kept = layers * activation_bytes(shape, micro, plan.tp) * parts
    if shape.recompute:
        kept += activation_bytes(_whole(shape), micro, plan.tp)
    scores = 2 * 4 * shape.context * micro * shape.vocabulary
    memory = state + kept + scores + RESERVE_BYTES

    compute = shape.flops / (plan.world * machine.flops)
    bubble = (plan.pp - 1) / parts
    seconds = compute * (1 + bubble) + _traffic_bytes(shape, plan, own + outer, rows) / machine.link_bytes_s
    return Estimate(
        plan=plan,
        state_bytes=state,
        activation_bytes=kept + scores,
        memory_bytes=memory,
        step_s=seconds,
        fits=memory <= machine.memory_bytes,
    )


def _whole(shape: Shape) -> Shape:
    """The shape without recomputation: what the one layer needs that is being recomputed."""
    return replace(shape, recompute=False)


def _traffic_bytes(shape: Shape, plan: Degrees, weights: float, rows: float) -> float:
    """Bytes that one GPU sends in a step. A ring passes (n - 1) / n of the data: twice for an all-reduce
    (dp), three times for fsdp (two gathers and a scatter); tp reduces the activations of a layer four
    times."""

    def ring(n: int) -> float:
        return (n - 1) / n

    width = shape.bytes_per_value
    sent = 2 * ring(plan.dp) * width * weights / plan.fsdp + 3 * ring(plan.fsdp) * width * weights
    activations = shape.context * rows * shape.width * width
    sent += 4 * 2 * ring(plan.tp) * activations * (shape.layers / plan.pp)
    if plan.pp > 1:
        sent += 2 * activations
    return sent


def candidates(shape: Shape, machine: Machine) -> Iterator[Degrees]:
    """Every plan that divides what it has to divide, on as many GPUs as there are or fewer."""
    sizes = [n for n in range(1, machine.gpus + 1) if machine.gpus % n == 0 or n & (n - 1) == 0]
    for dp, fsdp, tp, pp in product(sizes, repeat=4):
        plan = Degrees(dp=dp, fsdp=fsdp, tp=tp, pp=pp)
        rows, rest = divmod(shape.batch, dp * fsdp)
        if plan.world > machine.gpus or rest or rows < 1:
            continue
        if shape.heads % tp or shape.width % tp or pp > shape.layers:
            continue
        if pp > 1 and rows % (2 * pp):
            continue
        yield plan


def choose(shape: Shape, machine: Machine, *, deadline_s: float | None = None) -> list[Estimate]:
    """The plans that fit, the cheapest in GPU-seconds first, and of equally cheap ones (within a hundredth)
    the fastest; with `deadline_s` only those whose step takes no longer. Empty: nothing fits."""
    found = [estimate(shape, plan, machine) for plan in candidates(shape, machine)]
    fitting = [one for one in found if one.fits and (deadline_s is None or one.step_s <= deadline_s)]
    if not fitting:
        return []
    best = min(one.gpu_s for one in fitting)
    return sorted(fitting, key=lambda one: (round(one.gpu_s / best, 2), one.step_s, _simplicity(one.plan)))


def _simplicity(plan: Degrees) -> tuple[int, ...]:
    """Simpler plans first: fewer kinds of parallelism, and those that are easier to get right."""
    used = sum(degree > 1 for degree in (plan.dp, plan.fsdp, plan.tp, plan.pp))
    return used, plan.pp, plan.tp, plan.fsdp, plan.dp

"""Counters of the ledger between scrapes."""

from leptond.api.metrics import ledger as module
from leptond.api.metrics.ledger import FRESH_S, Ledger, LedgerMetrics
from leptond.core.accounting.ledger import Box
from leptond.gpus.base import Sample


def values(metrics):
    return {
        (metric.name, *sample.labels.values()): sample.value
        for metric in metrics.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def sample(uuid, energy_j):
    return Sample(
        uuid=uuid,
        sampled_at=1.0,
        memory_used_bytes=0,
        utilization=0.0,
        temperature_c=None,
        power_w=None,
        processes=[],
        energy_j=energy_j,
    )


def test_milliseconds_are_shown_as_seconds_and_unknown_energy_not_at_all():
    found = values(
        LedgerMetrics(
            boxes={box: 1500 * (number + 1) for number, box in enumerate(Box)},
            idle_s=2.5,
            cost=0.25,
            currency="EUR",
            samples={"GPU-0": sample("GPU-0", 12.0), "GPU-1": sample("GPU-1", None)},
        )
    )
    assert [found["leptond_gpu_seconds", str(box)] for box in Box] == [
        1.5 * (number + 1) for number in range(len(Box))
    ]
    assert found["leptond_gpu_idle_allocated_seconds",] == 2.5
    assert found["leptond_cost", "EUR"] == 0.25
    assert found["leptond_gpu_energy_joules", "GPU-0"] == 12.0
    assert ("leptond_gpu_energy_joules", "GPU-1") not in found


class Clock:
    """A clock that a test moves."""

    boot_id = "boot"

    def __init__(self):
        self.now = 1000.0

    def wall(self):
        return self.now

    def boot(self):
        return self.now


async def test_the_boxes_are_computed_anew_only_after_a_while_and_never_fall(world, monkeypatch):
    clock = world.context.clock = Clock()
    computed = []
    totals = dict.fromkeys(Box, 0)

    def settled(db, now):
        computed.append(now)
        return dict(totals), None, now

    monkeypatch.setattr(module.daily, "settled", settled)
    ledger, box = Ledger(), next(iter(Box))

    async def shown():
        return values(await ledger.collector(world.context))["leptond_gpu_seconds", str(box)]

    totals[box] = 5000
    assert await shown() == 5.0
    totals[box] = 9000
    clock.now += FRESH_S - 1
    assert await shown() == 5.0
    clock.now += 1
    assert await shown() == 9.0
    totals[box] = 7000  # a hand-over was noted late
    clock.now += FRESH_S
    assert await shown() == 9.0
    assert computed == [1000.0, 1000.0 + FRESH_S, 1000.0 + 2 * FRESH_S]

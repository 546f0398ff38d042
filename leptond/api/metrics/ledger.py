"""Counters of the ledger, from settled time only, computed anew every few seconds at most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from leptond.api.http.context import Context
from leptond.core.accounting.ledger import Box
from leptond.gpus.base import Sample
from leptond.store.accounting import daily

FRESH_S = 15.0
"""Seconds for which the counters of the boxes hold."""


class Ledger:
    """Keeps the counters between scrapes, so that none of them ever falls."""

    def __init__(self) -> None:
        self._boxes: dict[Box, int] = dict.fromkeys(Box, 0)
        self._made = float("-inf")

    async def collector(self, context: Context) -> LedgerMetrics:
        """Return the counters as of now, for one scrape."""
        if context.clock.boot() - self._made >= FRESH_S:
            self._made = context.clock.boot()
            await self._refresh(context)
        idle_ms, cost_micros = await context.store.survey(daily.counters)
        return LedgerMetrics(
            boxes=self._boxes,
            idle_s=idle_ms / 1000,
            cost=cost_micros / 1e6,
            currency=context.settings.cost.currency,
            samples=context.gpu_view.samples(),
        )

    async def _refresh(self, context: Context) -> None:
        now = context.clock.wall()
        totals, history, begin = await context.store.survey(daily.settled, now)
        if history is not None:
            end = max(begin, now - daily.SETTLED_S)
            totals = await asyncio.to_thread(daily.add_settled, totals, history, begin, end)
        self._boxes = {box: max(ms, self._boxes[box]) for box, ms in totals.items()}


class LedgerMetrics(Collector):
    """Counters of one scrape."""

    def __init__(
        self,
        *,
        boxes: Mapping[Box, int],
        idle_s: float,
        cost: float,
        currency: str,
        samples: Mapping[str, Sample],
    ) -> None:
        self._boxes = boxes
        self._idle_s = idle_s
        self._cost = cost
        self._currency = currency
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        boxes = CounterMetricFamily(
            "leptond_gpu_seconds", "GPU time by box, once it is settled (docs/economics.md).", labels=["box"]
        )
        for box, ms in self._boxes.items():
            boxes.add_metric([str(box)], ms / 1000)
        yield boxes
        yield CounterMetricFamily(
            "leptond_gpu_idle_allocated_seconds",
            "GPU time that ended attempts held and left idle.",
            self._idle_s,
        )
        cost = CounterMetricFamily("leptond_cost", "What ended attempts cost.", labels=["currency"])
        cost.add_metric([self._currency], self._cost)
        yield cost
        energy = CounterMetricFamily(
            "leptond_gpu_energy_joules", "Energy since the driver was loaded.", labels=["uuid"]
        )
        for uuid, sample in self._samples.items():
            if sample.energy_j is not None:
                energy.add_metric([uuid], sample.energy_j)
        yield energy

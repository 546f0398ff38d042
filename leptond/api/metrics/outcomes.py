"""Counters of what happened to jobs since this daemon started, read from the events at each scrape. They
begin at 0 with the daemon, as Prometheus expects, and never fall, whatever the retention forgets."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from leptond.base.histogram import DurationHistogram
from leptond.core.jobs.model import TERMINAL, FailureClass
from leptond.store import Store
from leptond.store.accounting import outcome_counts
from leptond.store.database import events

SLICE = 2000
"""Most events of one read, so that no other read waits long behind it."""

BOUNDS_S = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 24 * 3600, 3 * 86400, 7 * 86400)
"""Bucket limits, from the seconds of a test to the week of a training."""


class Outcomes(Collector):
    """Keeps the counters between scrapes."""

    def __init__(self) -> None:
        self._position: int | None = None
        self._reading = asyncio.Lock()
        self._finished: Tally[str] = Tally()
        self._retries: Tally[str] = Tally()
        self._preemptions = 0
        self._waits = DurationHistogram(BOUNDS_S)
        self._runs = DurationHistogram(BOUNDS_S)

    async def begin(self, store: Store) -> None:
        """Begin to count, from the newest event on."""
        self._position = await store.look(events.last_id)

    async def update(self, store: Store) -> None:
        """Count the events since the last call."""
        async with self._reading:  # two scrapes at a time must not count the same twice
            while self._position is not None:
                found, self._position = await store.survey(outcome_counts.after, self._position, limit=SLICE)
                for one in found:
                    self._note(one)
                if len(found) < SLICE:
                    return

    def _note(self, one: outcome_counts.Outcome) -> None:
        if one.requeued:
            if one.cause == FailureClass.PREEMPTED:
                self._preemptions += 1
            else:
                self._retries[one.cause or "unknown"] += 1
        elif one.to in TERMINAL:
            self._finished[one.to] += one.jobs
        if one.wait_s is not None:
            self._waits.observe(one.wait_s)
        if one.run_s is not None:
            self._runs.observe(one.run_s)

    def collect(self) -> Iterable[Metric]:
        ended = CounterMetricFamily("leptond_jobs_finished", "Jobs that have ended.", labels=["outcome"])
        for state in TERMINAL:
            ended.add_metric([str(state)], self._finished[state])
        yield ended
        retries = CounterMetricFamily("leptond_job_retries", "Attempts that were retried.", labels=["cause"])
        for cause, count in self._retries.items():
            retries.add_metric([cause], count)
        yield retries
        yield CounterMetricFamily(
            "leptond_preemptions", "Attempts that made room for another job.", self._preemptions
        )
        for name, text, durations in (
            (
                "leptond_job_wait_seconds",
                "From the submission (or the begin time) to the first start.",
                self._waits,
            ),
            ("leptond_job_run_seconds", "How long attempts ran.", self._runs),
        ):
            yield histogram(name, text, durations)


def histogram(name: str, text: str, durations: DurationHistogram) -> HistogramMetricFamily:
    """Return durations in the form that Prometheus takes."""
    return HistogramMetricFamily(name, text, buckets=durations.buckets(), sum_value=durations.total_s)

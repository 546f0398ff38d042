"""The exposition page. State is read at the scrape; only durations of requests are collected in between."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from leptond import __version__, schema
from leptond.api.http.context import Context
from leptond.api.metrics.ledger import Ledger
from leptond.api.metrics.outcomes import Outcomes, histogram
from leptond.api.views.devices import show_all
from leptond.api.views.explain import Explain
from leptond.base.histogram import DurationHistogram
from leptond.core.access.rights import Rights
from leptond.store import Connection, Store
from leptond.store.planning.candidates import WINDOW
from leptond.store.queue import attempts, jobs, lists
from leptond.store.upkeep import webhooks


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A job on a GPU."""

    gpu: int
    uuid: str
    job_id: int
    name: str
    user: str


class Facts(msgspec.Struct, kw_only=True):
    """State that one scrape reports, read from one snapshot."""

    counts: dict[str, int]
    pending: dict[str, int]
    oldest_wait_s: float
    gpus: list[schema.Gpu]
    commits: int
    commit_times: DurationHistogram
    pass_times: DurationHistogram
    webhooks: dict[str, int]
    running: list[Running]


class Metrics:
    """The registry of one daemon."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._ledger = Ledger()
        self._outcomes = Outcomes()
        self.registry.register(self._outcomes)
        self.requests = Histogram(
            "leptond_http_request_seconds",
            "Time to answer, by route.",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
        )
        self.scrapes = Counter("leptond_scrapes", "Scrapes of this page.", registry=self.registry)

    async def begin(self, store: Store) -> None:
        """Begin to count outcomes of jobs."""
        await self._outcomes.begin(store)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(method, route, str(status)).observe(seconds)

    async def page(self, context: Context, rights: Rights) -> bytes:
        """Return the exposition text, with what a caller may see of jobs."""
        view = context.gpu_view
        samples, unhealthy = view.samples(), view.unhealthy()

        def fetch(db: Connection) -> Facts:
            explain = Explain(db, context, unhealthy, rights)
            oldest = lists.oldest_wait(db)
            waits = explain.planned(WINDOW).waits
            return Facts(
                counts={str(state): n for state, n in jobs.counts(db).items()},
                pending=dict(Tally(str(wait.reason) for wait in waits.values())),
                oldest_wait_s=explain.now - oldest if oldest is not None else 0.0,
                gpus=show_all(db, samples, unhealthy, rights),
                commits=context.store.commits,
                commit_times=context.store.commit_times,
                pass_times=context.pass_times,
                webhooks=webhooks.totals(db),
                running=_running(db, rights) if context.settings.http.job_metrics else [],
            )

        await self._outcomes.update(context.store)
        facts = await context.store.survey(fetch)
        self.scrapes.inc()
        scrape = CollectorRegistry(auto_describe=False)
        scrape.register(_Scrape(facts))
        scrape.register(await self._ledger.collector(context))
        return generate_latest(scrape) + generate_latest(self.registry)


class _Scrape(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        facts = self._facts
        build = GaugeMetricFamily("leptond_build_info", "The running version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield _by("leptond_jobs", "Jobs by state.", "state", facts.counts)
        yield _by("leptond_pending", "Jobs in the planner's window that wait.", "reason", facts.pending)
        yield GaugeMetricFamily(
            "leptond_queue_oldest_wait_seconds",
            "Age of the oldest job that could start.",
            facts.oldest_wait_s,
        )
        yield CounterMetricFamily("leptond_db_commits", "Transactions written.", facts.commits)
        yield histogram("leptond_db_commit_seconds", "Time of a transaction.", facts.commit_times)
        yield histogram(
            "leptond_scheduler_tick_seconds",
            "Time of a look at the queue with its starts.",
            facts.pass_times,
        )
        if facts.running:
            info = GaugeMetricFamily(
                "leptond_running_job_info",
                "Which job has which GPU.",
                labels=["gpu", "uuid", "job_id", "name", "user"],
            )
            for one in facts.running:
                info.add_metric([str(one.gpu), one.uuid, str(one.job_id), one.name, one.user], 1)
            yield info
        deliveries = CounterMetricFamily(
            "leptond_webhook_deliveries", "Events that webhooks were sent.", labels=["result"]
        )
        for result, count in facts.webhooks.items():
            deliveries.add_metric([result], count)
        yield deliveries
        for name, text, value_of in (
            ("leptond_gpu_allocated", "Whether a job has it.", lambda gpu: float(gpu.job_id is not None)),
            ("leptond_gpu_healthy", "Whether jobs may start on it.", lambda gpu: float(gpu.schedulable)),
            ("leptond_gpu_utilization_ratio", "Load, 0 to 1.", lambda gpu: gpu.utilization),
            ("leptond_gpu_memory_used_bytes", "Memory in use.", lambda gpu: gpu.memory_used_bytes),
            ("leptond_gpu_memory_total_bytes", "Memory it has.", lambda gpu: gpu.memory_total_bytes),
            ("leptond_gpu_power_watts", "Power draw.", lambda gpu: gpu.power_w),
            ("leptond_gpu_temperature_celsius", "Temperature.", lambda gpu: gpu.temperature_c),
        ):
            family = GaugeMetricFamily(name, text, labels=["gpu", "uuid"])
            for gpu in facts.gpus:
                value = value_of(gpu)
                if value is not None:
                    family.add_metric([str(gpu.index), gpu.uuid], value)
            yield family


def _running(db: Connection, rights: Rights) -> list[Running]:
    return [
        Running(gpu=gpu.index, uuid=gpu.uuid, job_id=one.job.id, name=one.job.name, user=one.job.user)
        for one in attempts.live(db)
        if rights.visible.shows(one.job.user, one.job.project)
        for gpu in one.attempt.gpus
    ]


def _by(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family

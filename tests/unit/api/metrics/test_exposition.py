"""The page that Prometheus reads, of a real queue."""

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from leptond import __version__
from leptond.api.http.identity import own_user
from leptond.api.metrics.exposition import Metrics
from tests.support.access import EVERYTHING


@pytest.fixture
async def page(world):
    """`page()` is the samples of a scrape, by name and labels."""
    metrics = Metrics()
    await metrics.begin(world.store)

    async def scrape():
        text = (await metrics.page(world.context, EVERYTHING)).decode()
        families = list(text_string_to_metric_families(text))
        names = [family.name for family in families]
        assert len(set(names)) == len(names), "each family stands once"
        return {
            (one.name, *(one.labels[key] for key in sorted(one.labels))): one.value
            for family in families
            for one in family.samples
        }

    scrape.metrics = metrics
    return scrape


async def test_an_idle_machine(world, page):
    found = await page()
    assert found["leptond_build_info", __version__] == 1
    assert found["leptond_jobs", "pending"] == 0
    assert found["leptond_queue_oldest_wait_seconds",] == 0
    assert [found["leptond_gpu_allocated", str(i), f"GPU-{i}"] for i in range(2)] == [0, 0]
    assert found["leptond_gpu_utilization_ratio", "0", "GPU-0"] == 0.5
    assert found["leptond_gpu_power_watts", "1", "GPU-1"] == 100


async def test_jobs_that_run_and_wait(world, page):
    job = await world.submit(gpus=2)
    await world.start(job, "GPU-0", "GPU-1")
    await world.submit(gpus=1)
    await world.submit(gpus=1, hold=True)
    found = await page()
    assert found["leptond_jobs", "running"] == 1
    assert found["leptond_jobs", "pending"] == 2
    assert found["leptond_pending", "Resources"] == 1
    assert found["leptond_gpu_allocated", "1", "GPU-1"] == 1
    assert 0 < found["leptond_queue_oldest_wait_seconds",] < 60


async def test_a_device_that_is_ill_or_drained_is_not_healthy(world, page):
    world.devices.ill["GPU-1"] = "fell off the bus"
    found = await page()
    assert found["leptond_gpu_healthy", "0", "GPU-0"] == 1
    assert found["leptond_gpu_healthy", "1", "GPU-1"] == 0


async def test_names_of_jobs_are_shown_only_where_that_is_configured(world, page):
    job = await world.submit(gpus=1, name="some.name")
    await world.start(job, "GPU-1")
    assert not [key for key in await page() if key[0] == "leptond_running_job_info"]
    world.context.settings = msgspec.structs.replace(
        world.context.settings, http=msgspec.structs.replace(world.context.settings.http, job_metrics=True)
    )
    (key,) = [key for key in await page() if key[0] == "leptond_running_job_info"]
    gpu, job_id, name, user, uuid = key[1:]  # the labels in the order of their names
    assert (gpu, job_id, name, uuid) == ("1", str(job), "some.name", "GPU-1")
    assert user == own_user()


async def test_requests_and_scrapes_are_counted(world, page):
    page.metrics.observe("GET", "/v1/jobs", 200, 0.002)
    page.metrics.observe("GET", "/v1/jobs", 200, 3.0)
    page.metrics.observe("GET", "/v1/jobs", 404, 0.002)
    await page()
    found = await page()
    assert found["leptond_scrapes_total",] == 2
    assert found["leptond_http_request_seconds_count", "GET", "/v1/jobs", "200"] == 2
    assert found["leptond_http_request_seconds_bucket", "0.005", "GET", "/v1/jobs", "200"] == 1
    assert found["leptond_http_request_seconds_count", "GET", "/v1/jobs", "404"] == 1


async def test_commits_and_their_times_agree(world, page):
    before = await page()
    await world.submit()
    after = await page()
    assert after["leptond_db_commits_total",] > before["leptond_db_commits_total",]
    assert after["leptond_db_commit_seconds_count",] == after["leptond_db_commit_seconds_bucket", "+Inf"]

"""The last day of the devices by minutes."""

from leptond.gpus.base import Sample
from leptond.services.gpu_history import BUCKET_S, KEPT_BUCKETS, GpuHistory


def test_a_minute_has_means_and_peaks():
    history = GpuHistory()
    for at, load, memory, power, heat in ((60.0, 0.2, 100, 50.0, 40.0), (90.0, 0.6, 50, 150.0, 60.0)):
        history.observe(
            Sample(
                uuid="A",
                sampled_at=at,
                utilization=load,
                memory_used_bytes=memory,
                power_w=power,
                temperature_c=heat,
            )
        )
    (minute,) = history.since("A", 0.0)
    assert (minute.at, minute.samples) == (60.0, 2)
    assert minute.utilization == 0.4
    assert minute.power_w == 100.0
    assert (minute.memory_used_bytes, minute.temperature_c) == (100, 60.0)


def test_what_a_device_does_not_report_stays_unknown():
    history = GpuHistory()
    history.observe(Sample(uuid="A", sampled_at=0.0))
    history.observe(Sample(uuid="A", sampled_at=1.0, temperature_c=3.0))
    (minute,) = history.since("A", 0.0)
    assert (minute.utilization, minute.power_w, minute.memory_used_bytes) == (None, None, None)
    assert minute.temperature_c == 3.0


def test_only_the_minutes_asked_for_come():
    history = GpuHistory()
    for minute in range(5):
        history.observe(Sample(uuid="A", sampled_at=minute * BUCKET_S))
    assert [one.at for one in history.since("A", 121.0)] == [120.0, 180.0, 240.0]
    assert history.since("B", 0.0) == []


def test_a_day_is_kept():
    history = GpuHistory()
    for minute in range(KEPT_BUCKETS + 10):
        history.observe(Sample(uuid="A", sampled_at=minute * BUCKET_S))
    kept = history.since("A", 0.0)
    assert len(kept) == KEPT_BUCKETS
    assert kept[0].at == 10 * BUCKET_S


def test_a_clock_that_jumps_back_does_not_disorder_them():
    history = GpuHistory()
    history.observe(Sample(uuid="A", sampled_at=600.0))
    history.observe(Sample(uuid="A", sampled_at=60.0))
    assert [(one.at, one.samples) for one in history.since("A", 0.0)] == [(600.0, 2)]

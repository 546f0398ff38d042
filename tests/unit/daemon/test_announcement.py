"""What a start in a terminal ends with."""

from __future__ import annotations

from leptond.daemon.announcement import Started, announcement

STARTED = {"version": "1.2.3", "socket": "/s/leptond.sock", "config_file": "/c/config.toml"}


def test_the_page_and_the_next_commands():
    text = announcement(
        Started(**STARTED, gpus=2, simulated=True, found_by_itself=True, page="http://127.0.0.1:1/#login=x")
    )
    assert "with 2 simulated GPUs" in text
    assert "The page: http://127.0.0.1:1/#login=x\n" in text
    assert "leptonctl submit --gpus 1 -n first" in text
    assert "LEPTOND_HOST" not in text


def test_without_a_page_or_gpus_and_at_a_place_of_its_own():
    text = announcement(Started(**STARTED, gpus=0, simulated=False, found_by_itself=False, page=None))
    assert "with no GPUs" in text
    assert "The page: off" in text
    assert "/c/config.toml" in text
    assert "--gpus" not in text
    assert "export LEPTOND_HOST=unix:///s/leptond.sock" in text

"""The page in a real Chromium with 10,000 jobs and 8 GPUs: ``python -m tests.benchmarks.page``.

Prints how long the first view takes (from the navigation to the GPUs and the first rows of the queue, of
fresh visits), and the long tasks, as the browser's own observer has them, while the wheel is turned over
the queue and events come in. Needs Chromium and playwright. Nothing is asserted: a machine that does
other things is slow."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.daemon import Daemon
from tests.ui.conftest import ARGS, CHROMIUM, url_of

JOBS, VISITS, PATIENCE_S, ROW_PX = 10_000, 5, 60.0, 46
WATCH = """
    window.longTasks = [];
    new PerformanceObserver((list) => {
        for (const task of list.getEntries()) window.longTasks.push([task.startTime, task.duration]);
    }).observe({ type: "longtask", buffered: true });
"""
FRAME = """() => new Promise((done) => requestAnimationFrame(() => {
    const box = document.querySelector(".rows");
    const all = !document.querySelector(".foot").textContent.includes("scroll for more");
    done([box.scrollTop, all && box.scrollTop + box.clientHeight >= box.scrollHeight - 1]);
}))"""


def scroll(page: Any, patience_s: float) -> tuple[float, float, list[float]]:
    """Turns the wheel over the queue to its end, or for as long; pixels, seconds, and the long tasks (ms)."""
    page.locator(".rows").hover()
    began, at, done = page.evaluate("performance.now()"), 0.0, False
    while not done and page.evaluate("performance.now()") - began < 1000 * patience_s:
        page.mouse.wheel(0, 600)
        at, done = page.evaluate(FRAME)
    tasks = page.evaluate(
        "began => window.longTasks.filter(([start]) => start >= began).map((one) => one[1])", began
    )
    return at, (page.evaluate("performance.now()") - began) / 1000, tasks


def fill(daemon: Daemon) -> None:
    """Jobs that run on all GPUs, and a queue of many users' jobs behind them."""
    for _ in range(8):
        daemon.submit("sleep", "3600", gpus=1, name="busy", time_limit_s=7200)
    for start in range(0, JOBS, 1000):
        jobs = [
            {
                "argv": ["true"],
                "gpus": 1 + n % 8,
                "name": f"job-{n}",
                "project": f"p{n % 20}",
                "time_limit_s": 600 + n,
            }
            for n in range(start, start + 1000)
        ]
        answer = daemon.post("/v1/jobs:batch", {"jobs": jobs})
        assert answer.status == 201, answer.data


def visit(browser: Any, url: str) -> tuple[float, list[float], Any]:
    """Seconds to the first view, its long tasks (ms), and the page."""
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    page.add_init_script(WATCH)
    page.goto(url, wait_until="commit")
    page.locator(".row .id a").nth(5).wait_for()
    page.locator(".gpu").nth(7).wait_for()
    # from the browser's own clock, without the way to this process
    seen = page.evaluate("performance.now()") / 1000
    tasks = [duration for _, duration in page.evaluate("window.longTasks")]
    return seen, tasks, page


def floor(browser: Any, seconds: float) -> list[float]:
    """The long tasks (ms) of a page that does nothing but scroll: what the machine itself adds."""
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    page.set_content("<div>" + "<p>a row of words that nobody computes</p>" * 10_000 + "</div>")
    page.evaluate(WATCH)
    page.mouse.move(400, 400)
    began = page.evaluate("performance.now()")
    while page.evaluate("performance.now()") - began < 1000 * seconds:
        page.mouse.wheel(0, 600)
        page.evaluate("() => new Promise(requestAnimationFrame)")
    tasks = page.evaluate(
        "began => window.longTasks.filter(([start]) => start >= began).map((one) => one[1])", began
    )
    page.context.close()
    return tasks


def main() -> None:
    if CHROMIUM is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as play:
        daemon = Daemon(
            Path(place) / "state", "--simulate-gpus", "8", "--listen", "127.0.0.1:0", executed=True
        )
        daemon.start()
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            fill(daemon)
            visits = []
            for _ in range(VISITS):
                seconds, tasks, page = visit(browser, url_of(daemon))
                visits.append((seconds, max(tasks, default=0.0)))
                page.context.close()
            *_, page = visit(browser, url_of(daemon))
            # the queue changes while it is scrolled
            for n in range(20):
                daemon.submit("true", gpus=8, name=f"late-{n}")
            pixels, seconds, tasks = scroll(page, PATIENCE_S)
            page.context.close()
            alone = floor(browser, seconds)
        finally:
            browser.close()
            daemon.close()
    views, longest = [one for one, _ in visits], [one for _, one in visits]
    for name, value in (
        (f"first view, s (median of {VISITS})", f"{statistics.median(views):.2f}"),
        ("first view, s (worst)", f"{max(views):.2f}"),
        ("longest task of a first view, ms (worst)", f"{max(longest):.0f}"),
        ("rows scrolled", f"{pixels / ROW_PX:.0f}"),
        ("in, s", f"{seconds:.1f}"),
        ("tasks over 50 ms while scrolling", f"{len(tasks)}"),
        ("tasks over 100 ms while scrolling", f"{sum(one > 100 for one in tasks)}"),
        ("longest task while scrolling, ms", f"{max(tasks, default=0):.0f}"),
        ("floor: over 50 ms, a still page, as long", f"{len(alone)}"),
        ("floor: longest task, ms", f"{max(alone, default=0):.0f}"),
    ):
        print(f"{name:<44}{value:>8}")


if __name__ == "__main__":
    main()

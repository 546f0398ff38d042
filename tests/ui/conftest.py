"""The page in a real Chromium, before a real daemon. Skipped, with the reason, where there is no browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser, one for the tests of a module."""
    api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
    if CHROMIUM is None:
        pytest.skip("the tests of the page need Chromium (Debian: apt-get install chromium)")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Daemon]:
    """A daemon with eight simulated GPUs that serves the page."""
    daemon = Daemon(
        tmp_path_factory.mktemp("ui") / "state", "--simulate-gpus", "8", "--listen", "127.0.0.1:0"
    )
    daemon.start()
    yield daemon
    daemon.close()


def url_of(daemon: Daemon, *, read_only: bool = False) -> str:
    """The page's address, with a token."""
    me = daemon.get("/v1/me").json
    return str(me["page_url_read_only" if read_only else "page_url"])


class Watched:
    """A page whose complaints are remembered."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options})
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def watched(browser) -> Iterator[Watched]:
    """A page; at the end it must not have complained (scripts, and the content security policy)."""
    one = Watched(browser)
    yield one
    one.close()
    assert one.complaints == []


def axe_source() -> str:
    """The accessibility checker's script."""
    package = pytest.importorskip("axe_core_python", reason="the accessibility tests need axe-core-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()

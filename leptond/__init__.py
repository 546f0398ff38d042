"""leptond: a GPU scheduler for one machine."""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than most commands to answer
if TYPE_CHECKING:
    from typing import Any

    from leptond.client.executor import JobFailed, JobFuture, LeptonExecutor
    from leptond.client.sdk import AsyncClient, Client

__version__ = "0.4.0"
__all__ = ["AsyncClient", "Client", "JobFailed", "JobFuture", "LeptonExecutor", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the clients at their first use: commands and daemon start without them."""
    if name in ("AsyncClient", "Client"):
        from leptond.client import sdk

        return getattr(sdk, name)
    if name in ("JobFailed", "JobFuture", "LeptonExecutor"):
        from leptond.client import executor

        return getattr(executor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Notifications to the service manager (sd_notify(3)): datagrams to the socket that it names."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> bool:
    """Send `message` (``READY=1``, ``WATCHDOG=1``, ``STATUS=...``). Returns False without a service
    manager."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """Seconds between two ``WATCHDOG=1``: half of what the manager allows; None if it does not ask for
    any."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or for_pid != str(os.getpid()):
        return None
    return int(microseconds) / 2e6

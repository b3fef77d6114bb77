"""What systemd is told: that the service is ready, that it lives, that it stops (sd_notify(3)). Without systemd, nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

PATIENCE_S = 1.0  # a manager that does not read must not keep a service from ending


def notify(*states: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send states such as `READY=1`. False when nobody listens; never raises, since a service works without it too."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(PATIENCE_S)
            channel.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds within which systemd wants to hear from this process (WatchdogSec), None when it does not."""
    wanted, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or not int(wanted) or (process and process != str(os.getpid())):
        return None
    return int(wanted) / 1e6


@contextmanager
def watched(stuck: Callable[[], list[str]], environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """The service is ready; while the block runs, the watchdog is fed as long as no line is `stuck`. At the end: it stops."""
    every_s, over = watchdog_s(environment), threading.Event()

    def feed(every_s: float) -> None:
        while True:
            hanging = stuck()
            notify(*([f"STATUS=no turn of {', '.join(hanging)}"] if hanging else ["WATCHDOG=1"]), environment=environment)
            if over.wait(every_s / 3):
                return

    notify("READY=1", environment=environment)
    thread = None if every_s is None else threading.Thread(target=feed, args=(every_s,), name="watchdog", daemon=True)
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        notify("STOPPING=1", environment=environment)
        over.set()
        if thread is not None:
            thread.join(5.0)

"""Refuses every connection beyond this machine, and writes down that it was tried.

tests/conftest.py loads it into the tests, and puts this folder on PYTHONPATH so that every Python
they start loads it too.
"""

import os
import socket
import sys
from typing import Any

LOG = "NO_NETWORK_LOG"
_HERE = {"", "localhost", "localhost.localdomain", "::1", "0.0.0.0", "::", socket.gethostname()}
_LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def is_here(host: Any) -> bool:
    """Whether a host is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    return host is None or str(host) in _HERE or str(host).startswith("127.")


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook."""
    if event in _LOOKUPS:
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[-1], tuple):
        host = arguments[-1][0]
    else:
        return
    if is_here(host):
        return
    if log := os.environ.get(LOG):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{event} {host!r} by {sys.argv[:2]}\n")
    raise RuntimeError(f"the network was to be used: {event} {host!r}")


sys.addaudithook(refuse)

"""Which addresses reach this machine alone, and which names can mean nothing else.

Pages of strangers run in the same browser as ours. A name of theirs that suddenly means this
machine (DNS rebinding) would make them one with ours for the browser; so requests by a name that
is not ours are refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_one_of(names: Container[str], header: str) -> bool:
    """Whether the header `Host` has one of the names, or a number, which can mean nothing else."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name in names or _is_number(name)


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

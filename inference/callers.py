"""Which address sent a request, as far as the server knows."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from django.conf import settings

HOST_BITS = 64  # of an IPv6 address: a caller that has one such address has all of its network


def address(environ: Mapping[str, Any]) -> str | None:
    """An IPv4 address or an IPv6 network; None if the server doesn't know.

    Behind a proxy that is trusted this is the last address in X-Forwarded-For, which that proxy
    has put there; those before it may be the caller's invention.
    """
    forwarded = None
    if settings.TRUST_PROXY:
        forwarded = _read(environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2])
    return forwarded or _read(environ.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=4096)
def _read(text: str) -> str | None:
    found: IPv4Address | IPv6Address
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found) >> HOST_BITS << HOST_BITS)
    return str(found)

"""The admin's log-in, where django-axes counts wrong passwords by caller and makes them wait."""

import math
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

HOST_BITS = 64  # of an IPv6 address: the owner of one such address has all with the same first bits


def address(request: HttpRequest) -> str | None:
    """Whose wrong passwords are counted together: an IPv4 address or an IPv6 network; None if the
    server doesn't know.

    Behind a proxy that is trusted this is the last address in X-Forwarded-For, which that proxy
    has put there; those before it may be the caller's invention.
    """
    found = _read(request.META.get("REMOTE_ADDR", ""))
    if settings.TRUST_PROXY:
        found = _read(request.headers.get("X-Forwarded-For", "").rpartition(",")[2]) or found
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found) >> HOST_BITS << HOST_BITS)
    return str(found) if found else None


def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.strip())
    except ValueError:
        return None


def paused(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """The answer after too many wrong passwords: it says when to try again."""
    username = credentials["username"]
    attempts = AccessAttempt.objects.filter(username=username, ip_address=address(request))
    now = timezone.now()
    last = attempts.aggregate(last=Max("attempt_time"))["last"] or now
    left = last + timedelta(seconds=settings.VELO_LOGIN_PAUSE) - now
    seconds = max(1, math.ceil(left.total_seconds()))
    context = {
        **admin.site.each_context(request),
        "title": "Too many wrong passwords",
        "username": username,
        "wait": f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s",
        "until": now + timedelta(seconds=seconds),
    }
    page = render(request, "admin/login_paused.html", context, status=429)
    page["Retry-After"] = str(seconds)
    add_never_cache_headers(page)
    return page

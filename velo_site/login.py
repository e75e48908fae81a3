"""The admin's log-in, where django-axes counts wrong passwords by caller and makes them wait."""

import math
from datetime import timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from inference import callers


def address(request: HttpRequest) -> str | None:
    """Whose wrong passwords are counted together."""
    return callers.address(request.META)


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

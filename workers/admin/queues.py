"""Queues and their jobs, which stand in Redis: a list, a page for each, and what may be done."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from redis.exceptions import RedisError

from workers.admin import jobs
from workers.admin.addresses import action_page, job_page, queue_link, queue_page
from workers.admin.look import Page, badge, link, listed, moment
from workers.admin.queue_actions import ACTIONS, Action, NotDone, carry_out, choose
from workers.broker import inspecting, leases
from workers.broker.connection import names
from workers.broker.inspecting import JobLine, Place
from workers.broker.names import QUEUE
from workers.models import Intervention, ModelVersion, Queue
from workers.values.version_id import VersionId

READ_INPUT = "workers.read_job_input"
PER_PAGE = 50
ID_CHARS = 16  # of a job, in a list
RETRY_AFTER = 5  # seconds, while Redis is away
View = Callable[..., HttpResponse]


@admin.register(Queue)
class QueueAdmin(Page):
    heading = "Queues and jobs"

    def get_urls(self) -> list[URLPattern]:
        routes: tuple[tuple[str, View, str], ...] = (
            ("", self.changelist_view, "changelist"),
            ("<str:queue>/", self.queue_view, "queue"),
            ("<str:queue>/job/<str:job_id>/", self.job_view, "job"),
            ("<str:queue>/do/<slug:action>/", self.act_view, "act"),
        )
        return [
            path(
                route, self.admin_site.admin_view(self._guarded(view)), name=f"workers_queue_{end}"
            )
            for route, view, end in routes
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _guarded(self, view: View) -> View:
        """Only with the permission to see queues; and Redis may be away."""

        @wraps(view)
        def guarded(request: HttpRequest, **names: str) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            try:
                return view(request, **{key: unquote(name) for key, name in names.items()})
            except RedisError as error:
                context = self._context(request, "Redis can't be reached", why=str(error))
                away = TemplateResponse(
                    request, "admin/workers/queue_away.html", context, status=503
                )
                away["Retry-After"] = str(RETRY_AFTER)
                return away

        return guarded

    def _context(self, request: HttpRequest, title: str, **more: Any) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts, **more}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        serving = {name for one in leases.registered() for name in one.queues}
        found = inspecting.counts(sorted({QUEUE, *names(), *serving}))
        rows = [
            (
                queue_link(one.name),
                one.workers,
                *(
                    link(queue_page(one.name, place=place), f"{count:,}") if count else 0
                    for place, count in one.jobs.items()
                ),
            )
            for one in found
        ]
        heads = ("queue", "live workers", *(place.value for place in Place))
        audit = listed(Intervention) if request.user.has_perm("workers.view_intervention") else ""
        context = self._context(request, self.heading, heads=heads, rows=rows, audit=audit)
        return TemplateResponse(request, "admin/workers/queues.html", context)

    def queue_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        _must_be_known(queue)
        place = _place(request.GET.get("place", ""))
        [found] = inspecting.counts([queue])
        total = found.jobs[place]
        last = max(1, -(-total // PER_PAGE))
        number = min(_number(request.GET.get("p", "")), last)
        ids = inspecting.listed(queue, place, (number - 1) * PER_PAGE, PER_PAGE)
        reads = request.user.has_perm(READ_INPUT)
        actions = _permitted(request, place)
        context = self._context(
            request,
            queue,
            queue=queue,
            version=_version(queue),
            workers=found.workers,
            place=place,
            places=[
                {"name": one.value, "count": count, "address": queue_page(queue, place=one)}
                for one, count in found.jobs.items()
            ],
            heads=("job", "enqueued", "started", "ended", "worker", "state"),
            reads=reads,
            jobs=[_row(queue, line) for line in inspecting.lines(ids)],
            choosing=[
                {"button": one.button, "address": action_page(queue, one.name)}
                for one in actions
                if not one.whole_queue
            ],
            tools=[
                {"name": f"{one.button}…", "address": action_page(queue, one.name)}
                for one in actions
                if one.whole_queue and total
            ],
            total=total,
            first=(number - 1) * PER_PAGE + 1,
            until=(number - 1) * PER_PAGE + len(ids),
            before=queue_page(queue, place=place, p=number - 1) if number > 1 else "",
            after=queue_page(queue, place=place, p=number + 1) if number < last else "",
        )
        return TemplateResponse(request, "admin/workers/queue.html", context)

    def job_view(self, request: HttpRequest, queue: str, job_id: str) -> HttpResponse:
        record = inspecting.job(queue, job_id)
        if record is None:
            raise Http404(
                f"Job {job_id} isn't in {queue}: it is over and forgotten, or was deleted."
            )
        status = record.line.status
        place = Place(status) if status in Place.__members__.values() else None
        place = Place.FAILED if status == "stopped" else place
        actions = _permitted(request, place) if place else []
        context = self._context(
            request,
            f"Job {job_id}",
            queue=queue,
            back=queue_page(queue, **({"place": place} if place else {})),
            fieldsets=jobs.fieldsets(record, reads=request.user.has_perm(READ_INPUT)),
            tools=[
                {"name": f"{one.button}…", "address": action_page(queue, one.name, [job_id])}
                for one in actions
                if not one.whole_queue
            ],
        )
        return TemplateResponse(request, "admin/workers/job.html", context)

    def act_view(self, request: HttpRequest, queue: str, action: str) -> HttpResponse:
        """GET asks, POST decides."""
        chosen = ACTIONS.get(action)
        if chosen is None:
            raise Http404
        if not request.user.has_perm(chosen.permission):
            raise PermissionDenied
        _must_be_known(queue)
        asked = [] if chosen.whole_queue else list(dict.fromkeys(request.GET.getlist("job")))
        choice = choose(chosen, inspecting.lines(asked[:PER_PAGE]))
        if not choice.ids and not chosen.whole_queue:
            messages.error(request, " ".join(choice.warnings) or "No job is chosen.")
            return HttpResponseRedirect(queue_page(queue))
        one_job = choice.ids[0] if len(asked) == 1 else ""
        form = choice.form(one_job, request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                said = carry_out(
                    chosen,
                    queue,
                    choice.ids,
                    by=request.user.get_username(),
                    reason=form.cleaned_data["reason"],
                )
            except NotDone as error:
                messages.error(request, str(error))
            else:
                messages.success(request, said)
                return HttpResponseRedirect(self._afterwards(queue, one_job))
        context = self._context(
            request,
            f"{chosen.button}: {one_job or queue}",
            question=chosen.ask(queue, len(choice.ids)),
            warnings=choice.warnings,
            jobs=[link(job_page(queue, job_id), job_id) for job_id in choice.ids],
            button=chosen.button,
            form=form,
            original=queue,
            back=job_page(queue, one_job) if one_job else queue_page(queue),
        )
        return TemplateResponse(request, "admin/workers/decide.html", context)

    def _afterwards(self, queue: str, job_id: str) -> str:
        """The job's page, if it is still there."""
        there = job_id and inspecting.job(queue, job_id)
        return job_page(queue, job_id) if there else queue_page(queue)


def _must_be_known(queue: str) -> None:
    """It has had a job, or may get one."""
    if queue != QUEUE and queue not in names() and _version(queue) is None:
        raise Http404(f"There is no queue {queue}.")


def _version(queue: str) -> ModelVersion | None:
    try:
        named = VersionId.parse(queue)
    except ValueError:
        return None
    return ModelVersion.objects.filter(model=named.model, version=named.version).first()


def _place(name: str) -> Place:
    try:
        return Place(name)
    except ValueError:
        return Place.QUEUED


def _number(text: str) -> int:
    return max(1, int(text[:9])) if text.isdecimal() else 1


def _permitted(request: HttpRequest, place: Place) -> list[Action]:
    return [
        action
        for action in ACTIONS.values()
        if place in action.places and request.user.has_perm(action.permission)
    ]


def _row(queue: str, line: JobLine) -> dict[str, Any]:
    state = badge(line.status) if line.status else badge("", "It is no longer kept.", "gone")
    crashes = badge("failed", text=f"{line.crashes} crashes") if line.crashes else ""
    return {
        "id": line.id,
        "name": line.id if len(line.id) <= ID_CHARS else f"{line.id[:8]}…",
        "address": job_page(queue, line.id),
        "cells": [
            moment(line.enqueued),
            moment(line.started),
            moment(line.ended),
            line.worker[:12],
        ],
        "state": state,
        "crashes": crashes,
        "description": line.description,
    }

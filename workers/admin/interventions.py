"""The audit trail of queues: each emptying, requeue, cancellation and deletion, with its reason."""

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from workers.admin.addresses import job_page, queue_link
from workers.admin.look import NOTHING, Window, as_written, badge, link, moment, whole
from workers.models import Intervention


@admin.register(Intervention)
class InterventionAdmin(Window):
    heading = "Audit trail of queues"
    list_display = ("when", "by", "action_name", "queue_name", "why", "outcome_badge", "detail")
    list_filter = ("action", "outcome", "queue")
    search_fields = ("by", "reason", "queue", "jobs")
    fields = (
        *("when", "by", "action_name", "queue_name", "chosen", "reason", "outcome_badge"),
        "what_came_of_it",
    )

    @admin.display(description="at", ordering="at")
    def when(self, row: Intervention) -> SafeString:
        return moment(row.at)

    @admin.display(description="action", ordering="action")
    def action_name(self, row: Intervention) -> str:
        return row.action

    @admin.display(description="queue", ordering="queue")
    def queue_name(self, row: Intervention) -> SafeString:
        return queue_link(row.queue)

    @admin.display(description="jobs")
    def chosen(self, row: Intervention) -> SafeString:
        """They may be gone by now."""
        links = ((link(job_page(row.queue, job_id), job_id),) for job_id in row.jobs.split())
        return format_html_join("", "<div>{}</div>", links) or whole(NOTHING)

    @admin.display(description="reason")
    def why(self, row: Intervention) -> str:
        return row.reason

    @admin.display(description="outcome", ordering="outcome")
    def outcome_badge(self, row: Intervention) -> SafeString:
        return badge(row.outcome, row.detail)

    @admin.display(description="what came of it")
    def what_came_of_it(self, row: Intervention) -> SafeString:
        return as_written(row.detail)

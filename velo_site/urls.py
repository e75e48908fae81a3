"""The address book: the API at the root, the admin beside it."""

from django.contrib import admin
from django.urls import include, path

admin.site.site_title = admin.site.site_header = "Velo"
admin.site.index_title = "Cockpit"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("inference.urls")),
]

handler400 = "inference.problems.bad_request"
handler403 = "inference.problems.forbidden"
handler404 = "inference.problems.not_found"
handler500 = "inference.problems.server_error"

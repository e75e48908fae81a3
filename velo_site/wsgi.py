"""The WSGI application that the web server runs."""

import os

from django.core.wsgi import get_wsgi_application

from velo_site.private import keep_private

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "velo_site.settings")
keep_private()  # whatever server it is that runs us

django = get_wsgi_application()

from inference.gate import Gate  # noqa: E402 - it needs Django set up

application = Gate(django)

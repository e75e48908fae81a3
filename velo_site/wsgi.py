"""The WSGI application that the web server runs."""

import os

from django.core.wsgi import get_wsgi_application

from velo_site.private import keep_private

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "velo_site.settings")
keep_private()  # whatever server it is that runs us

django = get_wsgi_application()

from inference.ending import end_with_server  # noqa: E402 - these need Django set up
from inference.gate import Gate  # noqa: E402

application = Gate(django)
end_with_server()

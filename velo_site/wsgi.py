"""Django's WSGI application, for `manage.py runserver`; `rsgi.py` is what the web server runs."""

import os

from django.core.wsgi import get_wsgi_application

from velo_site.private import keep_private

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "velo_site.settings")
keep_private()  # whatever server it is that runs us

application = get_wsgi_application()

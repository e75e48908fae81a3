"""The application that `manage.py web` runs: Django behind the door and its gate."""

from velo_site.wsgi import application as django

from inference.door import Door  # isort: skip - these need Django set up
from inference.ending import end_with_server  # isort: skip

application = Door(django)
end_with_server()

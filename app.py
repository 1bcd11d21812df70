"""The ASGI entry that a server loads: `uvicorn app:app`."""

from lakemesh.app import create_app
from lakemesh.config.settings import Settings
from lakemesh.logs import configure_logging

settings = Settings()
configure_logging(settings.log_level)
app = create_app(settings)

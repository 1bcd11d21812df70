"""The ASGI entry that a server loads: `uvicorn app:app`."""

from lakemesh.app import create_app

app = create_app()

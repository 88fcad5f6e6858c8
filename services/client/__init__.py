"""Clients of the service's HTTP API, for the command line and for programs."""

from services.client.awaiting import AsyncStillroomClient
from services.client.blocking import StillroomClient
from services.client.errors import ApiError, ServerUnreachableError
from services.client.following import place_of

__all__ = ["ApiError", "AsyncStillroomClient", "ServerUnreachableError", "StillroomClient", "place_of"]

"""The service, offline. It shares no code with the client."""

from .listener import Answer, Request
from .server import ENDPOINTS, KINDS, Sandbox
from .store import StateError

__all__ = ["ENDPOINTS", "KINDS", "Answer", "Request", "Sandbox", "StateError"]

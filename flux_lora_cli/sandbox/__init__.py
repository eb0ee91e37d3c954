"""The service, offline. It shares no code with the client."""

from .faults import ENDPOINTS, KINDS
from .listener import Answer, Request
from .server import Sandbox
from .store import StateError

__all__ = ["ENDPOINTS", "KINDS", "Answer", "Request", "Sandbox", "StateError"]

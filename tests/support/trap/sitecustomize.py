"""In every Python process that a test starts: no connection to any other host than this one."""

import socket

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
_connect = socket.socket.connect


def _guarded(self, address):  # type: ignore[no-untyped-def]
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
        raise PermissionError(f"a test tried to reach {address}")
    _connect(self, address)


socket.socket.connect = _guarded  # type: ignore[method-assign]

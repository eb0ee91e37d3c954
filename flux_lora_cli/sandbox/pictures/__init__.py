"""Pictures composed from a request. Deterministic: no clock, no randomness but the request's own seed."""

"""Use cases over small Protocols: run a batch, follow tasks, verify, merge."""

"""Side effects, one kind a file: HTTP, ledger, image store, preset files, clock."""

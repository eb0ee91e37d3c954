"""Importing this imports the whole program: commands are forks of a process that has done so (see ``forks``)."""

import gc
import importlib
import os
import pkgutil
from contextlib import redirect_stderr

from tests.support.fast import trace

tracer = trace() if "TRACED_FORKS" in os.environ else None
for module in pkgutil.walk_packages(importlib.import_module("flux_lora_cli").__path__, "flux_lora_cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
    # What is only imported once arguments are read.
    importlib.import_module("flux_lora_cli.commands.app").run(["verify", "/nonexistent"])
if tracer:
    tracer.stop()
    tracer.save()
gc.freeze()

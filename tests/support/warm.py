"""Importing this imports the whole program: commands are forks of a process that has done so (see ``forks``)."""

import gc
import importlib
import os
import pkgutil
from contextlib import redirect_stderr

import flux_lora_cli
from flux_lora_cli.commands import app

for module in pkgutil.walk_packages(flux_lora_cli.__path__, "flux_lora_cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
    app.run(["verify", "/nonexistent"])  # what is only imported once arguments are read
gc.freeze()

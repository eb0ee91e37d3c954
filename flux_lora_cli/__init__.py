"""flux-lora: batch image generation with FLUX LoRA models through WaveSpeed's HTTP API.

What the commands do, a script can do, too. Names are imported when they are first used, so that the command line
starts quickly:

- ``connect``, ``Client``: the API, one try per call.
- ``load_presets``: preset files into jobs, with every problem of a file in one PresetError.
- ``run_batch``: jobs to completion; run again to resume.
- ``submit_jobs``, ``wait_for``: single tasks.
- ``Sandbox``: the service, offline, in this process.
"""

from __future__ import annotations

from flux_lora_cli._version import __version__

TYPE_CHECKING = False  # typing itself would take half of what `--version` takes, deaf to Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from flux_lora_cli.engine.assemble import Result, Settings, Stop
    from flux_lora_cli.engine.batch import run_batch
    from flux_lora_cli.engine.tasks import submit_jobs, wait_for
    from flux_lora_cli.errors import ExitCode, FluxLoraError, PresetError
    from flux_lora_cli.folder.records import JobRecord, OutputRecord, State
    from flux_lora_cli.presets.job import Job, LocalImage
    from flux_lora_cli.presets.load import load_presets
    from flux_lora_cli.sandbox import Sandbox
    from flux_lora_cli.service.client import Client, connect
    from flux_lora_cli.service.wire import Task

__all__ = [
    "Client",
    "ExitCode",
    "FluxLoraError",
    "Job",
    "JobRecord",
    "LocalImage",
    "OutputRecord",
    "PresetError",
    "Result",
    "Sandbox",
    "Settings",
    "State",
    "Stop",
    "Task",
    "__version__",
    "connect",
    "load_presets",
    "run_batch",
    "submit_jobs",
    "wait_for",
]

_PLACES = {
    "engine.assemble": ("Result", "Settings", "Stop"),
    "engine.batch": ("run_batch",),
    "engine.tasks": ("submit_jobs", "wait_for"),
    "errors": ("ExitCode", "FluxLoraError", "PresetError"),
    "folder.records": ("JobRecord", "OutputRecord", "State"),
    "presets.job": ("Job", "LocalImage"),
    "presets.load": ("load_presets",),
    "sandbox": ("Sandbox",),
    "service.client": ("Client", "connect"),
    "service.wire": ("Task",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

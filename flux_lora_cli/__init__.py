"""flux-lora: batch image generation with FLUX LoRA models through WaveSpeed's HTTP API.

What the commands do, a script can do, too. Names are imported when they are first used, so that the command
line starts quickly:

- ``connect``, ``Client``: the API, one try a call.
- ``load_presets``: preset files into jobs, with every problem of a file in one PresetError.
- ``run_batch``: jobs to the end; run again to resume.
- ``submit_jobs``, ``wait_for``: single tasks.
- ``Sandbox``: the service, offline, in this process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flux_lora_cli._version import __version__

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client, connect
    from flux_lora_cli.api import BatchOptions, BatchResult, load_presets, run_batch
    from flux_lora_cli.domain.job import Job, LocalImage
    from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
    from flux_lora_cli.domain.task import Task
    from flux_lora_cli.errors import ExitCode, FluxLoraError, PresetError
    from flux_lora_cli.sandbox.server import Sandbox
    from flux_lora_cli.tasks import SaveTo, TasksResult, submit_jobs, wait_for
    from flux_lora_cli.workflow.context import Settings

_PLACES = {
    "BatchOptions": "api",
    "BatchResult": "api",
    "Client": "adapters.client",
    "ExitCode": "errors",
    "FluxLoraError": "errors",
    "Job": "domain.job",
    "JobRecord": "domain.records",
    "LocalImage": "domain.job",
    "OutputRecord": "domain.records",
    "PresetError": "errors",
    "Sandbox": "sandbox.server",
    "SaveTo": "tasks",
    "Settings": "workflow.context",
    "State": "domain.records",
    "Task": "domain.task",
    "TasksResult": "tasks",
    "connect": "adapters.client",
    "load_presets": "api",
    "run_batch": "api",
    "submit_jobs": "tasks",
    "wait_for": "tasks",
}

__all__ = [
    "BatchOptions",
    "BatchResult",
    "Client",
    "ExitCode",
    "FluxLoraError",
    "Job",
    "JobRecord",
    "LocalImage",
    "OutputRecord",
    "PresetError",
    "Sandbox",
    "SaveTo",
    "Settings",
    "State",
    "Task",
    "TasksResult",
    "__version__",
    "connect",
    "load_presets",
    "run_batch",
    "submit_jobs",
    "wait_for",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value

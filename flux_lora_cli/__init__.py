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
    from flux_lora_cli.assembly.batches import BatchOptions, BatchResult, load_presets, run_batch
    from flux_lora_cli.assembly.submitting import submit_jobs
    from flux_lora_cli.assembly.task_runs import SaveTo, TasksResult
    from flux_lora_cli.assembly.waiting import wait_for
    from flux_lora_cli.domain.job import Job, LocalImage
    from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
    from flux_lora_cli.domain.task import Task
    from flux_lora_cli.errors import ExitCode, FluxLoraError, PresetError
    from flux_lora_cli.sandbox.server import Sandbox
    from flux_lora_cli.workflow.context import Settings

_PLACES = {
    "BatchOptions": "assembly.batches",
    "BatchResult": "assembly.batches",
    "Client": "adapters.client",
    "ExitCode": "errors",
    "FluxLoraError": "errors",
    "Job": "domain.job",
    "JobRecord": "domain.records",
    "LocalImage": "domain.job",
    "OutputRecord": "domain.records",
    "PresetError": "errors",
    "Sandbox": "sandbox.server",
    "SaveTo": "assembly.task_runs",
    "Settings": "workflow.context",
    "State": "domain.records",
    "Task": "domain.task",
    "TasksResult": "assembly.task_runs",
    "connect": "adapters.client",
    "load_presets": "assembly.batches",
    "run_batch": "assembly.batches",
    "submit_jobs": "assembly.submitting",
    "wait_for": "assembly.waiting",
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

"""Sandboxes in the test's process, for commands that run in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions


@pytest.fixture
def service() -> Iterator[Callable[..., dict[str, str]]]:
    """Start a service; its faults as ``serve --fault`` takes them. The result is the environment to reach it with."""
    started: list[Sandbox] = []

    def start(*faults: str, **options: Any) -> dict[str, str]:
        chosen = {"service_time": (0.0, 0.05), "pictures": "plain", **options}
        sandbox = Sandbox(SandboxOptions(faults=list(faults), **chosen))
        started.append(sandbox)
        return {"WAVESPEED_BASE_URL": sandbox.start(), "WAVESPEED_API_KEY": "k"}

    yield start
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """Three small jobs."""
    path = tmp_path / "three.yaml"
    path.write_text(
        "version: 1\ndefaults: {size: 512*512}\njobs:\n"
        "  - {id: one, prompt: a cat, seed: 1}\n"
        "  - {id: two, prompt: a dog, seed: 2}\n"
        "  - {id: three, prompt: an owl, seed: 3}\n"
    )
    return path

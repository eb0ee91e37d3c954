"""flux-lora: batch image generation with FLUX LoRA models through WaveSpeed's HTTP API."""

from __future__ import annotations

from flux_lora_cli._version import __version__

__all__ = ["__version__"]

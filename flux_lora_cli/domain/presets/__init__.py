"""The preset language: files that a team keeps and reviews, into the jobs that they mean.

Start at ``loading``: ``load_sources`` reads, checks and expands. Nothing here opens a
file; ``files.PresetFiles`` is what the language needs of the world.
"""

from __future__ import annotations

from ..loras import parse_lora
from .files import PresetFiles, SourceFile
from .loading import MAX_JOBS, Loaded, LoadOptions, PresetInfo, load_sources
from .problems import FileRefused, Problem
from .prompts import build_prompt_jobs

__all__ = [
    "MAX_JOBS",
    "FileRefused",
    "LoadOptions",
    "Loaded",
    "PresetFiles",
    "PresetInfo",
    "Problem",
    "SourceFile",
    "build_prompt_jobs",
    "load_sources",
    "parse_lora",
]

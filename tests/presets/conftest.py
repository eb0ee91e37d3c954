"""Loading of presets from a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import Loaded, LoadOptions, load_sources
from flux_lora_cli.errors import PresetError

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef"
    b"\x00\x00\x00\x00IEND\xaeB`\x82"
)


class Studio:
    """A folder of presets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allow: list[Path] = []

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, name: str, content: str | bytes | None = None, **options: object) -> Loaded:
        path = self.folder / name if content is None else self.write(name, content)
        loading = LoadOptions(**options)  # type: ignore[arg-type]
        return load_sources([str(path)], FolderPresetFiles(self.allow), loading)

    def ids(self, content: str, **options: object) -> list[str]:
        return [job.id for job in self.load("p.yaml", content, **options).jobs]

    def prompts(self, content: str, **options: object) -> list[str]:
        return [job.params["prompt"] for job in self.load("p.yaml", content, **options).jobs]

    def problems(self, content: str | bytes, name: str = "p.yaml", **options: object) -> list[str]:
        """Problems as FILE:LINE:COLUMN: message, files without their folder."""
        try:
            self.load(name, content, **options)
        except PresetError as error:
            return [str(problem).replace(f"{self.folder}/", "") for problem in error.problems]
        return []


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.fixture
def png() -> bytes:
    return PNG


Ids = Callable[[str], list[str]]

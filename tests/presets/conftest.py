"""Loading of presets from a temporary folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import PresetError
from flux_lora_cli.presets.load import Loaded, LoadOptions, build_prompt_jobs, load_presets
from tests.support.fake import png as make_png


class Studio:
    """A folder of presets. Texts that stand for a file are written to ``p.yaml`` (or ``name``) first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allow: list[Path] = []

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, content: str | bytes, name: str = "p.yaml", **options: Any) -> Loaded:
        return load_presets(self.write(name, content), options=LoadOptions(**options), allow=self.allow)

    def ids(self, content: str, name: str = "p.yaml", **options: Any) -> list[str]:
        return [job.id for job in self.load(content, name, **options).jobs]

    def prompts(self, content: str, name: str = "p.yaml", **options: Any) -> list[str]:
        return [job.params["prompt"] for job in self.load(content, name, **options).jobs]

    def params(self, content: str, name: str = "p.yaml", **options: Any) -> dict[str, Any]:
        (job,) = self.load(content, name, **options).jobs
        return {**job.params, "seed": job.seed}

    def problems(self, content: str | bytes, name: str = "p.yaml", **options: Any) -> list[str]:
        """FILE:LINE:COLUMN: message of each problem, files without their folder."""
        try:
            self.load(content, name, **options)
        except PresetError as error:
            return [str(problem).replace(f"{self.folder}/", "") for problem in error.problems]
        return []

    def notes(self, content: str | bytes, name: str = "p.yaml", **options: Any) -> list[tuple[str, str, str]]:
        """(kind, place, message) of each note."""
        found = self.load(content, name, **options).notes
        return [(n.kind, f"{Path(n.file).name}:{n.line}:{n.column}", n.message) for n in found]

    def submit(self, *prompts: str, preset: str | None = None, **options: Any) -> Loaded:
        target = {name: options.pop(name) for name in ("stack", "job") if name in options}
        path = None if preset is None else self.folder / preset
        return build_prompt_jobs(prompts, LoadOptions(**options), preset=path, allow=self.allow, **target)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.chdir(tmp_path)
    return Studio(tmp_path)


@pytest.fixture
def png() -> bytes:
    return make_png()

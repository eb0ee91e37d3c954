"""``--shard auto``: an engine that changes its mind buys nothing that another part's folder has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli, Finished

_PRESET = """\
version: 1
defaults: {size: 512*512}
matrix: {seed: [1, 2, 3, 4, 5, 6, 7, 8]}
jobs: [{id: dawn, prompt: a lunar base}]
"""


def _slurm(index: int, first: int, last: int, count: int | None = None, step: int = 1) -> dict[str, str]:
    return {
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_ARRAY_TASK_COUNT": str((last - first) // step + 1 if count is None else count),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last),
        "SLURM_ARRAY_TASK_STEP": str(step),
    }


def _gitlab(index: int, total: int) -> dict[str, str]:
    return {"CI_NODE_INDEX": str(index), "CI_NODE_TOTAL": str(total)}


def _aws(index: int, size: int) -> dict[str, str]:
    return {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(size)}


def _kubernetes(index: int, completions: int) -> dict[str, str]:
    return {"JOB_COMPLETION_INDEX": str(index), "JOB_COMPLETIONS": str(completions)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(_PRESET)
    return tmp_path


def _batch(cli: Cli, env: dict[str, str], *more: str, shard: str = "auto") -> Finished:
    return cli("batch", "p.yaml", "--sandbox", "-o", "out", "--shard", shard, "--poll-interval", "0.1", *more, env=env)


def _everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _jobs(folder: Path) -> list[str]:
    return [job["id"] for job in json.loads((folder / "manifest.json").read_text())["jobs"]]


@pytest.mark.parametrize(
    ("at_first", "now", "engine", "said"),
    [
        (_slurm(2, 1, 4), _slurm(2, 2, 2), "Slurm", "1/1"),
        pytest.param(_slurm(2, 1, 4), _slurm(2, 2, 3), "Slurm", "1/2", marks=pytest.mark.slow),
        pytest.param(_gitlab(2, 4), _gitlab(2, 3), "GitLab CI", "2/3", marks=pytest.mark.slow),
        pytest.param(_aws(1, 4), _aws(1, 2), "AWS Batch", "2/2", marks=pytest.mark.slow),
        (_kubernetes(1, 4), _kubernetes(1, 8), "Kubernetes", "2/8"),
    ],
    ids=["one of an array", "some of an array", "GitLab", "AWS Batch", "Kubernetes"],
)
def test_a_folder_keeps_to_its_part(
    cli: Cli, place: Path, at_first: dict[str, str], now: dict[str, str], engine: str, said: str
) -> None:
    assert _batch(cli, at_first).code == 0
    before = _everything(place / "out")
    for more in ((), ("--dry-run",), ("--retry-failed",)):
        ended = _batch(cli, now, "--log-file", str(place / "requests.log"), *more)
        assert ended.code == 2, ended.err
        assert "out has part 2/4" in ended.err
        assert f"{engine} now says {said}" in ended.err
        assert "--shard 2/4" in ended.err
        assert ended.out == ""
        log = place / "requests.log"
        assert not log.exists() or log.read_text() == ""
        assert _everything(place / "out") == before
    assert _batch(cli, at_first).code == 0
    assert _batch(cli, now, shard="2/4").code == 0
    assert _jobs(place / "out") == [job["id"] for job in json.loads(before["manifest.json"])["jobs"]]


def test_a_part_that_the_user_names_is_never_refused(cli: Cli, place: Path) -> None:
    assert _batch(cli, _slurm(2, 1, 4)).code == 0
    few = _jobs(place / "out")
    assert 0 < len(few) < 8
    assert _batch(cli, _slurm(2, 2, 2), shard="1/1").code == 0
    assert len(_jobs(place / "out")) == 8
    assert _batch(cli, _slurm(2, 2, 2)).code == 2  # what the user named is not what the engine may say


@pytest.mark.slow
def test_an_empty_part_is_remembered_too(cli: Cli, place: Path) -> None:
    (place / "p.yaml").write_text("version: 1\njobs: [{id: one, prompt: a cat, size: 512*512, seed: 1}]\n")
    codes = []
    for index in (1, 2):
        assert _batch(cli, _gitlab(index, 2), "-o", f"out-{index}").code == 0
        codes.append(_batch(cli, _gitlab(1, 1), "-o", f"out-{index}").code)
    assert codes == [2, 2]


@pytest.mark.parametrize(
    "array",
    [
        [_slurm(n, 1, 6, 4) for n in (1, 3, 4, 6)],
        [_slurm(n, 1, 6, 4, 2) for n in (1, 3, 4, 6)],
        [_slurm(n, 1, 3, 2) for n in (1, 3)],
        [_slurm(4, 1, 7, 4, 2)],  # the one of 1,3,4,7 that shows it
    ],
    ids=["1,3,4,6", "1,3,4,6 by its first step", "1,3", "between two steps"],
)
def test_no_element_of_an_array_with_gaps_runs(cli: Cli, place: Path, array: list[dict[str, str]]) -> None:
    for env in array:
        ended = _batch(cli, env, "--dry-run")
        assert ended.code == 2
        assert "has gaps" in ended.err
        assert "Submit the whole range" in ended.err
        assert "--shard K/N" in ended.err
    assert not (place / "out").exists()


def test_ranges_with_a_step_have_no_gaps(cli: Cli, place: Path) -> None:
    found = []
    for index in (0, 4, 8, 12):
        ended = _batch(cli, _slurm(index, 0, 12, 4, 4), "--dry-run", "--json")
        assert ended.code == 0
        found.append(ended.events[-1]["jobs"])
    assert sum(found) == 8

"""A preset from a stranger's pull request decides nothing, and reads nothing, that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flux_lora_cli.errors import PresetError
from flux_lora_cli.presets.load import load_presets


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("base_url", "--base-url"), ("host", "--base-url"), ("api_key", "WAVESPEED_API_KEY"), ("output", "--output"),
        ("filename", "--filename"), ("max_jobs", "--max-jobs"), ("max_cost", "--max-cost"), ("rate", "--rate"),
        ("concurrency", "--concurrency"), ("api_version", "--api-version"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "place",
    [
        "{key}: 1\njobs:\n- prompt: a\n",
        "jobs:\n- prompt: a\n  {key}: 1\n",
        "defaults: {{{key}: 1}}\njobs:\n- prompt: a\n",
    ],
)
def test_hosts_keys_limits_and_folders_are_not_a_presets(studio, key: str, option: str, place: str) -> None:
    (found,) = studio.problems(place.format(key=key))
    assert "a preset cannot set this" in found and option in found


@pytest.fixture
def inner(studio, png):
    """A preset folder with a secret beside it, and links that lead there."""
    folder = studio.folder / "presets"
    (folder / "sub").mkdir(parents=True)
    for extension, data in (("png", png), ("txt", b"SECRET\n"), ("yaml", b"defaults: {seed: 1}\n")):
        studio.write(f"secret.{extension}", data)
        (folder / f"link.{extension}").symlink_to(studio.folder / f"secret.{extension}")
    (folder / "linked").symlink_to(studio.folder)
    return type(studio)(folder)


@pytest.mark.parametrize("attempt", ["../secret.{x}", "{abs}", "link.{x}", "sub/../../secret.{x}", "linked/secret.{x}"])
@pytest.mark.parametrize(
    ("extension", "text"),
    [
        ("png", "jobs:\n- {{prompt: a, image: '{path}'}}\n"),
        ("txt", "jobs:\n- {{prompts_file: '{path}'}}\n"),
        ("yaml", "extends: '{path}'\njobs:\n- prompt: a\n"),
    ],
)
def test_files_outside_the_presets_folder_are_refused(studio, inner, attempt: str, extension: str, text: str) -> None:
    preset = text.format(path=attempt.format(x=extension, abs=studio.folder / f"secret.{extension}"))
    (found,) = inner.problems(preset)
    assert "outside the preset's own folder" in found and "--allow-path" in found and "SECRET" not in found
    inner.allow = [studio.folder]
    assert inner.problems(preset) == []


def test_wildcards_and_extended_presets_are_confined_in_the_same_way(studio, inner) -> None:
    (inner.folder / "wildcards").symlink_to(studio.folder)
    assert "outside the preset's own folder" in inner.problems("jobs:\n- prompt: __secret__\n")[0]
    inner.write("sub/base.yaml", "defaults: {image: ../../secret.png}\n")
    assert "outside" in inner.problems("extends: sub/base.yaml\njobs:\n- prompt: a\n")[0]
    inner.write("sub/base.yaml", "defaults: {image: ../mug.png}\n")
    inner.write("mug.png", (studio.folder / "secret.png").read_bytes())
    assert inner.problems("extends: sub/base.yaml\njobs:\n- prompt: a\n") == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "./x", "a/../../x", "a/.."])
def test_a_wildcard_that_leaves_its_folder(studio, name: str) -> None:
    studio.write("x.txt", "SECRET\n")
    (found,) = studio.problems(f"jobs:\n- prompt: 'a __{name}__'\n")
    assert f'the wildcard "{name}" leaves the folder' in found and f"\\__{name}__" in found
    assert studio.prompts(f"jobs:\n- prompt: 'a \\__{name}__'\n") == [f"a __{name}__"]


@pytest.mark.parametrize("name", ["id_rsa", "secrets.ini"])
def test_only_files_that_look_like_what_is_asked_for_are_read(studio, name: str) -> None:
    studio.write(name, "SECRET\n")
    for link in ("link.txt", "link.yaml"):
        (studio.folder / link).symlink_to(name)
    for text in (f"jobs: [{{prompts_file: {name}}}]", "jobs: [{prompts_file: link.txt}]", "extends: link.yaml"):
        found = studio.problems(text)[0]
        assert "allowed" in found and "SECRET" not in found
    studio.write("key.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n")
    (found,) = studio.problems("jobs: [{prompts_file: key.txt}]")
    assert "SECRET" not in found


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>"])
def test_an_image_must_be_one(studio, data: bytes) -> None:
    studio.write("x.png", data)
    assert "is not an image" in studio.problems("jobs:\n- {prompt: a, image: x.png}\n")[0]


def test_pointers_of_git_lfs_are_no_files(studio) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
    for name in ("x.png", "x.txt"):
        studio.write(name, pointer)
    found = studio.problems("jobs:\n- {prompt: a, image: x.png}\n- {prompts_file: x.txt}\n")
    assert len(found) == 2 and all("git lfs pull" in line for line in found)
    with pytest.raises(PresetError, match="Git LFS pointer"):
        studio.load(pointer)


@pytest.mark.parametrize("given", ["<(printf '{}')", "/dev/stdin < <(printf '{}')", "/dev/stdin < whole.yaml"])
def test_a_descriptor_on_the_command_line_is_read(studio, given: str) -> None:
    preset = "jobs: [{id: a, prompt: x}]"
    studio.write("whole.yaml", preset)
    script = (
        "import sys; from flux_lora_cli.presets.load import load_presets as load; print(load(sys.argv[1]).jobs[0].id)"
    )
    command = f"{sys.executable} -c '{script}' {given.replace('{}', preset)}"
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, (Path(__file__).parents[2], *sys.path)))}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, env=environment)
    assert done.stdout == "a\n", done.stderr


@pytest.mark.parametrize("repository", [True, False])
def test_a_preset_that_is_a_link(studio, repository: bool) -> None:
    if repository:
        (studio.folder / "repo" / ".git").mkdir(parents=True)
    studio.write("repo/shared/p.yaml", "jobs: [{prompt: a}]")
    studio.write("outside.yaml", "jobs: [{prompt: SECRET}]")
    folder = studio.folder / "repo" / "presets"
    folder.mkdir()
    (folder / "out.yaml").symlink_to(studio.folder / "outside.yaml")
    (folder / "shared.yaml").symlink_to("../shared/p.yaml")
    (folder / "own.yaml").symlink_to("real.yaml")
    studio.write("repo/presets/real.yaml", "jobs: [{prompt: a}]")
    with pytest.raises(PresetError, match="a link that leads out"):
        load_presets(folder / "out.yaml")
    assert load_presets(folder / "out.yaml", allow=[studio.folder]).jobs
    assert load_presets(folder / "own.yaml").jobs
    if repository:
        (folder / "hidden.txt").symlink_to("../.git/HEAD")
        studio.write("repo/.git/HEAD", "SECRET")
        with pytest.raises(PresetError, match="begins with a dot"):
            load_presets(folder / "hidden.txt")
        assert load_presets(folder / "shared.yaml").jobs
    else:
        with pytest.raises(PresetError, match="a link that leads out"):
            load_presets(folder / "shared.yaml")

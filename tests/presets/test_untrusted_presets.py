"""A preset from a stranger's pull request decides nothing that is not its own to decide."""

from __future__ import annotations

import os

import pytest

from flux_lora_cli.errors import NotFoundError, PresetError


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("base_url", "--base-url"),
        ("host", "--base-url"),
        ("api_key", "WAVESPEED_API_KEY"),
        ("output", "--output"),
        ("filename", "--filename"),
        ("max_jobs", "--max-jobs"),
        ("max_cost", "--max-cost"),
        ("rate", "--rate"),
        ("concurrency", "--concurrency"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "{key}: 1\njobs:\n- prompt: a\n",
        "jobs:\n- prompt: a\n  {key}: 1\n",
        "defaults: {{{key}: 1}}\njobs:\n- prompt: a\n",
    ],
)
def test_hosts_keys_limits_and_folders_are_not_a_presets(studio, key, option, place):
    found = studio.problems(place.format(key=key))
    assert len(found) == 1 and "a preset cannot set this" in found[0] and option in found[0]


ATTEMPTS = ["../secret.{x}", "{abs}", "link.{x}", "sub/../../secret.{x}", "linked/secret.{x}"]


@pytest.fixture
def inner(studio, png):
    """A preset folder with a secret beside it, and links that lead there."""
    folder = studio.folder / "presets"
    (folder / "sub").mkdir(parents=True)
    for extension, data in (("png", png), ("txt", b"secret\n"), ("yaml", b"defaults: {seed: 1}\n")):
        studio.write(f"secret.{extension}", data)
        (folder / f"link.{extension}").symlink_to(studio.folder / f"secret.{extension}")
    (folder / "linked").symlink_to(studio.folder)
    return type(studio)(folder)


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize(
    ("extension", "text"),
    [
        ("png", "jobs:\n- {{prompt: a, image: '{path}'}}\n"),
        ("txt", "jobs:\n- {{prompts_file: '{path}'}}\n"),
        ("yaml", "extends: '{path}'\njobs:\n- prompt: a\n"),
    ],
)
def test_files_outside_the_presets_folder_are_refused(studio, inner, attempt, extension, text):
    path = attempt.format(x=extension, abs=studio.folder / f"secret.{extension}")
    preset = text.format(path=path)
    found = inner.problems(preset)
    assert len(found) == 1 and "outside the preset's own folder" in found[0] and "--allow-path" in found[0]
    inner.allow = [studio.folder]
    assert inner.problems(preset) == []


def test_wildcards_are_confined(studio, inner):
    (inner.folder / "wildcards").symlink_to(studio.folder)
    found = inner.problems("jobs:\n- prompt: __secret__\n")
    assert "outside the preset's own folder" in found[0]


def test_an_extended_preset_is_confined_by_the_one_on_the_command_line(studio, inner):
    inner.write("sub/base.yaml", "defaults: {image: ../../secret.png}\n")
    assert "outside" in inner.problems("extends: sub/base.yaml\njobs:\n- prompt: a\n")[0]


@pytest.mark.parametrize("data", [b"not an image", b"", b"GIF89a", b"<svg/>", b"root:x:0:0"])
def test_an_image_must_be_one(studio, data):
    studio.write("x.png", data)
    assert "is not an image" in studio.problems("jobs:\n- {prompt: a, image: x.png}\n")[0]


def test_an_image_is_hashed_and_named_by_its_content(studio, png):
    from hashlib import sha256

    studio.write("in/x.jpg", png)
    job = studio.load("p.yaml", "jobs:\n- {prompt: a, image: in/x.jpg}\n").jobs[0]
    assert job.image is not None and "image" not in job.params
    assert job.image.sha256 == sha256(png).hexdigest()
    assert (job.image.media_type, job.image.extension, job.image.bytes) == ("image/png", "png", len(png))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    "text",
    ["extends: pipe\njobs:\n- prompt: a\n", "jobs:\n- prompts_file: pipe\n", "jobs:\n- {prompt: a, image: pipe}\n"],
)
def test_pipes_and_folders_are_not_waited_for(studio, text):
    os.mkfifo(studio.folder / "pipe")
    assert "is not a file" in studio.problems(text)[0]


def test_a_source_that_is_no_file(studio):
    (studio.folder / "d.yaml").mkdir()
    with pytest.raises((PresetError, NotFoundError)):
        studio.load("d.yaml")


def test_files_over_the_limit_are_refused(studio, monkeypatch):
    from flux_lora_cli.adapters import preset_files

    monkeypatch.setattr(preset_files, "MOST_SOURCE_BYTES", 100)
    assert "too large" in studio.problems("# " + "x" * 200)[0]

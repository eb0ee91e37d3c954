"""Names are safe on Linux, macOS and Windows, stay inside the folder, and tell images apart."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_lora_cli.errors import UsageError
from flux_lora_cli.folder.files import is_safe_path
from flux_lora_cli.folder.names import DEFAULT, FIELDS, TASK_DEFAULT, Template, case_key, safe_component
from flux_lora_cli.text import slug

VALUES: dict[str, str | int | None] = {
    "preset": "nasa-posters", "job": "dawn/a-lunar-base/nasa/1", "slug": "a-cat", "seed": 7, "index": 1,
    "fingerprint": "0123456789abcdef" * 4, "task": "t-1", "ext": "png", "date": "2026-11-23",
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (DEFAULT, "a-cat-0123456789ab-1.png"),
        (TASK_DEFAULT, "t-1-1.png"),
        ("{job}-{index}.{ext}", "dawn-a-lunar-base-nasa-1-1.png"),
        ("{preset}/{date}/{job}_{index}.{ext}", "nasa-posters/2026-11-23/dawn-a-lunar-base-nasa-1_1.png"),
        ("{task}-{index}", "t-1-1.png"),
        ("{ext}/{task}-{index}", "png/t-1-1.png"),
        ("{seed}-{task}{index}.{ext}", "7-t-11.png"),
        ("{{x}}-{task}-{index}.{ext}", "{x}-t-1-1.png"),
        ("v1.0 {task} {index}.{ext}", "v1.0 t-1 1.png"),
    ],
)
def test_what_a_template_makes(template: str, name: str) -> None:
    assert Template(template).render(VALUES) == name


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "empty"), ("{slug}-{index}.{ext}", "two images one name"),
        ("{seed}-{date}-{index}.{ext}", "two images one name"), ("{fingerprint}.{ext}", "two images one name"),
        ("{job}.{ext}", "two images one name"), ("{jop}-{index}.{ext}", "no field"), ("{}-{index}.{ext}", "no field"),
        ("{task!r}-{index}", "no field"), ("{task.__class__}-{index}", "no field"), ("{task[0]}-{index}", "no field"),
        ("{slug:>5}-{index}", "no field"), ("{task}-{index:03}", "no field"), ("{task-{index}", "a single brace"),
        ("task}-{index}", "a single brace"), ("/tmp/{task}-{index}", "out of the output folder"),
        ("../{task}-{index}", "out of the output folder"), ("a/../{task}-{index}", "out of the output folder"),
        ("./{task}-{index}", "out of the output folder"), ("a//{task}-{index}", "empty"), ("{task}-{index}/", "empty"),
        ("a\\{task}-{index}", "out of the output folder"), ("C:{task}-{index}", "out of the output folder"),
        ("{task}-{index}.png", "follows the content"), ("{task}-{index}.JPEG", "follows the content"),
    ],
)  # fmt: skip
def test_wrong_templates_say_what_is_wrong(template: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template(template)
    assert words in caught.value.message


def test_several_presets_need_another_field() -> None:
    Template("{preset}-{job}-{index}", several_presets=True)
    with pytest.raises(UsageError) as caught:
        Template("{job}-{index}", several_presets=True)
    assert "{preset}" in caught.value.hint


def test_a_task_of_unknown_origin_still_gets_a_name_of_its_own() -> None:
    values = dict.fromkeys(FIELDS) | {"task": "t9", "index": 0, "ext": "webp"}
    assert Template("{fingerprint}-{index}").render(values) == "t9-0.webp"
    assert Template("{job}-{seed}-{index}").render(values) == "t9-none-0.webp"


HOSTILE = [
    "../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\x", "C:x", "\\\\server\\share", "a:b", "CON", "con.txt",
    "NUL", "COM1", "COM¹", "LPT9.x", "CONOUT$", "aux ", "x.", "x ", "x. . .", "-rf", "--help", ".hidden", "~root", "",
    " ", ".", "..", "a\nb", "a\x00b", "a\x1b[31m", "\u202egnp.exe", "\u200b", "e\u0301" * 3, "🦀" * 100, "\ud800",
    "x" * 300, "%2e%2e%2f", "$(reboot)`id`", 'a*b?c<d>e|f"g',
]  # fmt: skip
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]')


def assert_safe(name: str) -> None:
    assert name not in ("", ".", "..")
    assert not _FORBIDDEN.search(name)
    assert len(name.encode()) <= 200
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert not re.match(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", name, re.IGNORECASE)
    assert unicodedata.is_normalized("NFC", name)
    assert PureWindowsPath(name).parts == (name,)
    assert PurePosixPath(name).parts == (name,)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_tamed(text: str) -> None:
    assert_safe(safe_component(text))
    values = {**VALUES, "job": text, "preset": text, "slug": text, "task": text, "ext": "png"}
    for template in ("{preset}/{job}-{index}.{ext}", "{slug}{task}{index}", "{job}/{preset}/{task}/{index}.{ext}"):
        path = Template(template).render(values)
        assert is_safe_path(path)
        assert path.endswith(".png")
        for part in path.split("/"):
            assert_safe(part)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.integers(20, 200))
@example("a" * 198 + ". .", 200)
@example("CON" + " " * 300, 200)
def test_any_text_becomes_a_safe_name(text: str, limit: int) -> None:
    name = safe_component(text, limit)
    assert_safe(name)
    assert len(name.encode()) <= limit
    assert safe_component(name, limit) == name


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "../a", "a/../b", "a//b", "./a", "a\\b", "C:a", "c:/a", "a\nb", "a\x00", "\ud800", 7, None]
)
def test_paths_from_elsewhere_are_checked(path: object) -> None:
    assert not is_safe_path(path)


def test_names_that_some_file_system_takes_for_one() -> None:
    assert case_key("A/É.png") == case_key("a/e\u0301.PNG")
    assert case_key("straße") == case_key("STRASSE")
    assert case_key("a") != case_key("b")


def test_names_of_other_scripts_stay_readable() -> None:
    name = Template(DEFAULT).render({**VALUES, "slug": slug("月の上の赤い猫、旅行ポスター")})
    assert name == "月の上の赤い猫-旅行ポスター-0123456789ab-1.png"
    assert len(Template(DEFAULT).render({**VALUES, "slug": slug("月" * 500)}).encode()) <= 255

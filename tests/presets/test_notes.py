"""What is valid and probably not meant is told; what people ordinarily write is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_lora_cli.presets.load import load_presets
from flux_lora_cli.presets.notes import KINDS

PRESETS = Path(__file__).parents[2] / "presets"
RESOURCES = Path(__file__).parents[2] / "flux_lora_cli" / "resources"
OURS = [*sorted(PRESETS.glob("*.yaml")), *sorted(PRESETS.glob("*.txt")), RESOURCES / "new-preset.yaml"]


def jobs(prompt: str, more: str = "") -> str:
    return f"{more}jobs:\n- prompt: {prompt}\n"


LORA = "jobs:\n- prompt: a\n  loras:\n  - path: "
#: (kind, place, words of the note, preset)
NOTED = [
    ("weight", "1:19", "3::", "jobs: [{ prompt:  'a {3::oak|birch} chair'}]"),
    ("weight", "2:11", "0.2::", jobs("'a {0.2::|0.8::gilded} frame'")),
    ("count", "2:11", "$$", jobs("'a {2$$red|blue} car'")),
    ("tag", "2:11", "did you mean <lora:PATH:SCALE>?", jobs("'a fox <LORA:owner/ink:0.8>'")),
    ("tag", "2:11", "not read here", jobs("'a fox <lyco:owner/ink:0.8>'")),
    ("options", "2:11", "--ar", jobs("'a fox --ar 16:9'")),
    ("options", "2:11", "--v 6", jobs("'a fox --v 6'")),
    ("weight", "2:11", "::2", jobs("'a fox::2 hen::1'")),
    ("weight", "2:11", "(literal: \\\\::)", jobs('"1.5::a fox:: in grass"')),
    ("weight", "2:11", ")++", jobs("'a (fox)++ in grass'")),
    ("choices", "2:11", "{a|b}", jobs("'a {red, light blue} bird'")),
    ("wildcard", "2:11", "__name__", jobs("'a __~color__ fox'")),
    ("wildcard", "2:11", "__colors/*__", jobs("'a __colors/*__ fox'")),
    ("tag", "2:11", "not read here", jobs("'a <fromto[0.5]:cat,dog>'")),
    ("tag", "2:11", "did you mean", jobs("'a fox <lora owner/ink 0.8>'")),
    ("tag", "2:11", "did you mean", jobs("'a fox (lora:owner/ink:0.8)'")),
    ("tag", "2:11", "(literal: \\\\<)", jobs('"a <lyco:x> fox"')),
    ("options", "2:11", "—ar 1", jobs("'a fox —ar 16:9'")),
    ("options", "2:11", "/imagine", jobs("'/imagine prompt: a fox'")),
    ("options", "2:11", "-s 50", jobs("'a fox -s 50 -W512'")),
    ("editing", "2:11", "[cat|dog]", jobs("'a [cat|dog]'")),
    ("editing", "2:11", "[hat:0.5]", jobs("'a fox [hat:0.5]'")),
    ("placeholder", "2:11", "${prompt}", jobs("'{prompt}, oil on canvas'")),
    ("control", "2:11", "U+FEFF", jobs("'a fox\ufeffa hen'")),
    ("number", "3:9", "1.23457E+9 is sent as 1234570000", jobs("a") + "  seed: 1.23457E+9\n"),
    ("infotext", "2:11", "pasted", jobs("'Steps: 20, Sampler: Euler a, CFG scale: 7'")),
    ("infotext", "2:11", "pasted", jobs("|\n    a fox\n    Negative prompt: blurry")),
    ("editing", "2:11", "[cat:dog:0.5]", jobs("'a [cat:dog:0.5]'")),
    ("placeholder", "3:11", "${place}", jobs("'at {place}'", "vars: {place: x}\n")),
    ("placeholder", "3:11", "${place}", jobs("'at $place'", "vars: {place: x}\n")),
    ("placeholder", "3:11", "${place}", jobs("'at {{ place }}'", "vars: {place: x}\n")),
    ("placeholder", "3:11", "${place}", jobs("'at %place%'", "vars: {place: x}\n")),
    ("placeholder", "3:11", "${place}", jobs("'at <place>'", "vars: {place: x}\n")),
    ("placeholder", "3:11", "${place}", jobs("'at [place]'", "vars: {place: x}\n")),
    ("comment", "2:11", "quotes", jobs("a fox #1 of 3")),
    ("comment", "2:11", "quotes", jobs("a fox # and a hen")),
    ("comment", "1:12", "quotes", "vars: {v: [a #b\n  , c]}\njobs: [{prompt: '${v}'}]"),
    ("space", "2:11", r"write \\_", jobs('"the file \\__init__"')),
    ("control", "2:11", "U+0007", jobs('"a \\a fox"')),
    ("unused", "1:12", '"v"', "vars: {v:  x}\njobs: [{prompt: a}]"),
    ("unused", "2:6", '"s"', "stacks:\n  s: [{path: o/n}]\njobs: [{prompt: a}]"),
    ("axis", "1:16", "every job sets seed itself", "matrix: {seed: [1, 2]}\njobs: [{prompt: a, seed: 3}]"),
    ("equal-choices", "2:11", '"red"', jobs("'a {red|blue|red} car'")),
    ("equal-choices", "1:21", "repeat: 3", "matrix: {seed: [-1, -1, -1]}\njobs: [{prompt: a}]"),
    ("equal-choices", "1:15", "vars.v: a", "vars: {v: [a, a]}\njobs: [{prompt: '${v}'}]"),
    ("duplicate", "2:3", "2 duplicates of fox/random", "jobs:\n- {id: fox, prompt: a, matrix: {seed: [-1, -1, -1]}}"),
    ("equal-requests", "3:3", "a, b", "jobs:\n- {id: a, prompt: x}\n- {id: b, prompt: x, size: 1024*1024}"),
    ("equal-requests", "3:3", "a, b", "jobs:\n- {id: a, prompt: x}\n- {id: b, prompt: x, strength: 0.5}"),
    ("equal-requests", "3:3", "a, b", "jobs:\n- {id: a, prompt: x}\n- {id: b, prompt: x, loras: []}"),
    ("no-effect", "3:13", "strength", jobs("a") + "  strength: 0.5\n"),
    ("no-effect", "1:23", "strength", "defaults: {strength:  0.5}\njobs: [{prompt: a}]"),
    ("no-effect", "3:3", "sample_seed", jobs("a") + "  sample_seed: 1\n"),
    ("no-effect", "2:11", "empty prompt", jobs("''")),
    ("secret", "4:11", "token=***", LORA + "https://x.co/a?token=HUSH"),
    ("secret", "3:10", "***", jobs("a") + "  image: https://x.co/a.png?key=HUSH"),
    ("lora-path", "4:11", "/resolve/main/ink.safetensors", LORA + "https://huggingface.co/o/ink/blob/main/ink.safetensors"),
    ("lora-path", "4:11", "models/7", LORA + "https://civitai.com/models/5?modelVersionId=7"),
    ("no-effect", "1:21", "strength", "matrix: {strength: [0.3, 0.5]}\njobs: [{prompt: a}]"),
    ("lora-twice", "5:11", '"o/n"', LORA + "o/n\n  - path: o/n"),
    ("lora-twice", "2:11", '"o/n"', jobs("'a <lora:o/n:1> <lora:o/n:0.5>'")),
    ("secret", "2:11", "token=***", jobs("'a <lora:https://x.co/a?token=HUSH:1>'")),
    ("lora-twice", "2:11", '"o/n"', "jobs:\n- prompt: 'a <lora:o/n:1>'\n  loras: [{path: o/n}]\n"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "place", "words", "text"), NOTED)
def test_what_is_probably_not_meant_is_told(studio, kind: str, place: str, words: str, text: str) -> None:
    found = studio.notes(text)
    matching = [note for note in found if note[0] == kind]
    assert matching, found
    assert matching[0][1] == f"p.yaml:{place}" and words in matching[0][2], matching
    assert "HUSH" not in str(found)
    problems = studio.problems(text, strict=True)
    assert any(line.startswith(f"p.yaml:{place}: ") and words in line for line in problems)


def test_an_axis_that_the_command_line_replaces_is_told(studio) -> None:
    found = studio.notes("matrix: {seed: [1, 2]}\njobs: [{prompt: a}]", overrides={"seed": 3})
    assert [(kind, place) for kind, place, _ in found] == [("axis", "p.yaml:1:16")]


def test_every_kind_is_described_and_tested() -> None:
    elsewhere = {"header", "literal"}
    assert {row[0] for row in NOTED} | elsewhere == set(KINDS)
    assert all(kind.reason and kind.silence for kind in KINDS.values())


@pytest.mark.parametrize(
    "text",
    [
        r"'a {3\::oak|birch} chair'", r"'a {2\$$red|blue} car'",
        r"'a fox \<LORA:owner/ink:0.8>'", r"'at \{place}'", r"'at \$place'",
        r"'at \${place} and \<place>'", r"'a fox \--ar 16:9, 3\::fox\::, fox\::2'",
        r"'a [cat\|dog] [a:b\:0.5] \{red, blue}'", r"'\__~color__'",
        '"a fox #1 of 3"', "a fox  # first try", r'"the file \\__init__"', "'a \\[x]'",
    ],
)  # fmt: skip
def test_what_silences_a_note(studio, text: str) -> None:
    more = "vars: {place: [x, z]}\n"
    assert studio.notes(more + f"jobs:\n- prompt: {text}\n- prompt: '${{place}}'\n") == []


def test_weights_of_wildcards_are_told_in_their_file(studio) -> None:
    studio.write("wildcards/tree.txt", "# common\n5::pine\n0.5::yew\nelm\nelm\n")
    found = studio.notes(jobs("'a __tree__'"))
    places = [(kind, place) for kind, place, _ in found]
    assert places[:3] == [("weight", "tree.txt:2:1"), ("weight", "tree.txt:3:1"), ("equal-choices", "tree.txt:5:1")]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("____tree__", "tree"),
        ("__wood\\tree__", "wood/tree"),
        ("__@tree__", "tree"),
        ("__my tree__", "my-tree"),
        ("__My Tree__", "my-tree"),
    ],
)  # fmt: skip
def test_a_wildcard_in_another_spelling_is_refused(studio, name: str, meant: str) -> None:
    for file in ("tree", "wood/tree", "my-tree"):
        studio.write(f"wildcards/{file}.txt", "x\n")
    (found,) = studio.problems(f"jobs:\n- prompt: 'a {name} b'\n")
    assert f"did you mean '__{meant}__'?" in found and "\\__" in found


def test_a_lora_that_is_a_file_here(studio) -> None:
    studio.write("o/n/x.safetensors", "")
    assert [note[0] for note in studio.notes(LORA + "o/n/x.safetensors")] == ["lora-path"]


def test_what_others_use_is_not_unused(studio) -> None:
    text = "stacks: {s: [{path: o/n}], t: []}\nvars: {v: x}\njobs: [{prompt: a}]\n"
    assert [note[0] for note in studio.notes(text)] == ["unused"] * 3
    studio.write("other.yaml", "extends: p.yaml\njobs: [{prompt: '${v}', stack: s}]\n")
    assert studio.notes(text) == []
    studio.write("base.yaml", text)
    assert studio.notes("extends: base.yaml\njobs: [{prompt: a}]\n") == []


def test_lists(studio) -> None:
    kinds = [(kind, place) for kind, place, _ in studio.notes("prompt\na fox\n", "j.txt")]
    assert kinds == [("header", "j.txt:1:1")]
    for first in ("# c\nid;prompt", "prompt,seed", '{"prompt": "a"}'):
        assert [kind for kind, _, _ in studio.notes(f"{first}\na fox\n", "j.txt")] == ["header"]
    (note,) = studio.notes("plain\na {b|c} <lora:o/n:1>\na __tree__\n", "j.txt")
    assert note[:2] == ("literal", "j.txt:2:1") and "2 prompts" in note[2] and "--expand" in note[2]
    assert studio.notes("a 50% {off} sale\n", "j.txt") == []
    kinds = [
        (kind, place) for kind, place, _ in studio.notes("a\nNegative prompt: x\nSteps: 20, Sampler: Euler\n", "j.txt")
    ]
    assert kinds == [("infotext", "j.txt:2:1"), ("infotext", "j.txt:3:1")]


def test_nothing_is_escaped_in_a_literal_prompt(studio) -> None:
    (tag, option) = studio.notes("a \\<lyco:x>\na \\--ar 16:9\n", "j.txt")
    assert (tag[0], option[0]) == ("tag", "options") and "literal" not in tag[2] + option[2]


def test_loras_in_a_cell(studio) -> None:
    rows = "prompt,loras\na,https://civitai.com/models/5?modelVersionId=7:0.5\nb,https://x.co/l?token=HUSH\nc,o/n;o/n\n"
    kinds = [(kind, place) for kind, place, _ in studio.notes(rows, "j.csv")]
    assert kinds == [("lora-path", "j.csv:2:3"), ("secret", "j.csv:3:3"), ("lora-twice", "j.csv:4:3")]


def test_duplicates_are_told_with_ids(studio) -> None:
    found = studio.notes("jobs:\n- {id: a, prompt: x}\n- {id: b, prompt: x}\n- {id: c, prompt: x, repeat: 2}\n")
    assert [(kind, place) for kind, place, _ in found] == [("duplicate", "p.yaml:3:3")]
    assert "2 duplicates of a (b, c/1)" in found[0][2] and "repeat: 3" in found[0][2]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_false_alarm_on_the_projects_presets(path: Path) -> None:
    loaded = load_presets(path)
    assert loaded.jobs and loaded.notes == ()


def test_no_false_alarm_on_ordinary_prompts(studio) -> None:
    prompts = [
        line for line in (Path(__file__).parent / "ordinary_prompts.txt").read_text("utf-8").splitlines() if line
    ]
    assert len(prompts) >= 200 and len(set(prompts)) == len(prompts)
    assert studio.notes("\n".join(prompts), "j.txt") == []
    quoted = [prompt.replace("'", "''") for prompt in prompts]
    more = "vars: {place: x, style: y, color: z}\n"
    used = "- {id: used, prompt: '${place} ${style} ${color}'}\n"
    text = more + "jobs:\n" + "".join(f"- prompt: '{prompt}'\n" for prompt in quoted) + used
    assert studio.notes(text) == []
    assert studio.prompts(text)[: len(prompts)] == prompts

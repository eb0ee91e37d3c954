"""Every problem of every file in one go, each with place, key, value, range and nearest name."""

from __future__ import annotations

import pytest

from flux_lora_cli.errors import NotFoundError, PresetError
from flux_lora_cli.presets.load import LoadOptions, load_presets


def test_all_problems_come_at_once_in_order(studio) -> None:
    found = studio.problems(
        """version: 2
modell: flux-dev-lora
defaults:
  steps: 28
  num_inference_steps: 99
stacks:
  nasa:
    - path: nasa
      scale: 9
      wieght: 1
matrix:
  stack: [nasaa]
jobs:
  - prompt: "${plase} x"
    vars: {place: a}
    sed: 1
  - id: "a b"
    prompt: "{a|b"
  - 7
"""
    )
    expected = [
        ("1:10", "version: 2 is out of range"),
        ("2:1", "modell: unknown key; did you mean 'model'?"),
        ("4:3", "defaults.steps: unknown key; did you mean 'num_inference_steps'?"),
        ("5:24", "defaults.num_inference_steps: 99 is out of range; allowed: a whole number from 1 to 50"),
        ("8:13", 'stacks.nasa[0].path: "nasa" is not a LoRA path'),
        ("9:14", "stacks.nasa[0].scale: 9 is out of range; allowed: a number from 0 to 4"),
        ("10:7", "stacks.nasa[0].wieght: unknown key"),
        ("14:13", "jobs[0].prompt: no variable \"plase\" in vars; did you mean '${place}'?"),
        ("16:5", "jobs[0].sed: unknown key; did you mean 'seed'?"),
        ("17:9", 'jobs[1].id: "a b" is not allowed here; allowed: letters'),
        ("18:13", "the brace { is never closed; write {a|b}, or \\\\{"),
        ("19:5", "jobs[2]: 7 is a number; allowed: a mapping"),
    ]
    assert any("12:11: matrix.stack[0]: no stack" in line for line in found)
    rest = [line for line in found if ":12:11:" not in line]
    assert len(rest) == len(expected)
    for line, (place, words) in zip(rest, expected, strict=True):
        assert line.startswith(f"p.yaml:{place}: ") and words in line, line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs:\n- seed: 1", "jobs[0]: no prompt"),
        ("jobs: []", "an empty list"),
        ("jobs: {a: b}", "a list"),
        ("version: 1", "nothing for others to extend"),
        ("jobs:\n- prompt: a\n  prompts_file: b.txt", "not both"),
        ("jobs:\n- prompt: a\n  image: b.png", 'jobs[0].image: "b.png": no such file'),
        ("jobs:\n- prompt: a\n  seed: [1, 2]", "list them under matrix"),
        ("jobs:\n- prompt: a\n  model: flux-dev-lora", "belongs at the top of the file"),
        ("jobs:\n- prompt: a\n  output_format: png", "not a parameter of flux-dev-lora on API v2"),
        ("model: flux-krea-dev-lora\njobs: [{prompt: a, num_images: 2}]", "not a parameter of flux-krea-dev-lora"),
        ("model: flux-kontext-dev-lora\njobs:\n- prompt: a", "flux-kontext-dev-lora needs image"),
        ("model: flux-schnell-lora\njobs:\n- prompt: ''", "flux-schnell-lora needs a prompt"),
        ("jobs:\n- prompt: a\n  loras: [{path: 'civitai:1@2'}]", "https://civitai.com/api/download/models/2"),
        ("jobs:\n- prompt: '<lora:owner/x:0.5:0.7>'", "two scales"),
        ("jobs:\n- {id: a, prompt: x}\n- {id: a, prompt: y}", '"a" is a duplicate; it is already in line 2'),
        ("jobs:\n- prompt: a\n  repeat: 0", "from 1 to 100000"),
        ("jobs:\n- prompt: a\n  seed: 9999999999\n  repeat: 2", "count up from 9999999999 to 10000000000"),
        ("jobs:\n- prompt: a\n  seed: 1\n  matrix: {seed: [1, 2]}", "sets seed itself"),
        ("jobs:\n- matrix: {prompt: [b, c]}\n  prompts_file: a.txt", "sets prompt itself"),
        ("matrix: {seed: 1}\njobs:\n- prompt: a", "allowed: a list"),
        ("matrix: {steps: [1]}\njobs:\n- prompt: a", "'num_inference_steps'"),
        ("zip: {seed: [1, 2], num_images: [1]}\njobs:\n- prompt: a", "seed 2, num_images 1"),
        ("zip: {seed: [1]}\nmatrix: {seed: [2]}\njobs:\n- prompt: a", "is in matrix, too"),
        ("matrix: {scale: [9]}\njobs:\n- prompt: a", "from 0 to 4"),
        ("matrix: {scale: [1, 2]}\njobs:\n- prompt: a", "no combination of this job has a LoRA"),
        ("matrix: {scale: {o/x: [1]}}\njobs:\n- {prompt: a, loras: [{path: o/n}]}", 'has the LoRA "o/x"'),
        ("vars: {x: [a, ~]}\njobs:\n- prompt: a", "vars.x[1]: there is nothing here"),
        ("vars: {x: [a, true]}\njobs:\n- prompt: a", "vars.x[1]"),
        ("vars: {x: '${y}', y: '${x}'}\njobs:\n- prompt: '${x}'", "in a circle: "),
        ("vars: {1x: a}\njobs:\n- prompt: a", '"1x" is not a name'),
        ("jobs:\n- prompt: 'a __dog__'", 'no wildcard "dog"'),
        ("jobs:\n- prompt: '${x'", "never closed"),
        (f"vars: {{v: '{'{a|b}' * 18}'}}\njobs:\n- prompt: '${{v}}'", "vars.v: the choices in this file come to more"),
        ("jobs:\n- prompt: '${x=!{a|b}}'", "set it under vars"),
        ("jobs:\n- prompt: a\n  stack: nasa", 'no stack "nasa"; known: none'),
        ("model: flux-dev-lra\njobs:\n- prompt: a", 'model: unknown model "flux-dev-lra"; did you mean'),
        ("defaults: {repeat: 2}\njobs:\n- prompt: a", "belongs in a job, not here"),
        ("extends: p.yaml\njobs:\n- prompt: a", "in a circle: p.yaml → p.yaml"),
        ("name: ' '\njobs:\n- prompt: a", "a name of 1 to 200 characters"),
    ],
)  # fmt: skip
def test_a_problem_says_what_and_what_is_allowed(studio, text: str, words: str) -> None:
    found = studio.problems(text)
    assert found and words in found[0], found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("jobs:\n- promt: a\n", 1),
        ("jobs:\n- sed: a\n", 2),
        ("vars: {v: [[a]], w: {x: y}}\njobs:\n- prompt: '${v} ${w}'\n- prompt: ${v}\n", 2),
        ("stacks: {s: [{path: o/n, scale: 9}], t: 1}\njobs: [{prompt: a, stack: s}, {prompt: b, stack: [s, t]}]\n", 2),
        ("matrix: {scale: {o/n: [9]}}\njobs:\n- {prompt: a, loras: [{path: o/n}]}\n", 1),
    ],
)  # fmt: skip
def test_one_slip_is_told_once(studio, text: str, count: int) -> None:
    assert len(studio.problems(text)) == count


def test_models_differ_in_parameters_and_loras(studio) -> None:
    loras = "jobs:\n- prompt: '<lora:e/e:1>'\n  loras: [" + ", ".join(f"{{path: a/b{n}}}" for n in range(4)) + "]\n"
    assert studio.problems(loras) == []
    assert "at most 3 on flux-schnell-lora" in studio.problems(f"model: flux-schnell-lora\n{loras}")[0]
    assert "5 LoRAs are too many; allowed: at most 4" in studio.problems(loras, api_version="v3")[0]
    text = "stacks:\n  a: &a [{path: o/a}, {path: o/b}, {path: o/c}]\n  b: *a\njobs:\n- prompt: x\n  stack: [a, b]\n"
    assert "6 LoRAs are too many" in studio.problems(text)[0]


def test_an_image_that_is_refused_is_not_said_to_be_missing(studio) -> None:
    text = "model: flux-kontext-dev-lora\njobs:\n- {prompt: a, image: nope.png}\n- {prompt: b, image: ''}\n"
    refused, missing = studio.problems(text)
    assert "no such file" in refused and "needs image" in missing


def test_places_survive_extends(studio) -> None:
    studio.write("base/house.yaml", "version: 1\ndefaults:\n  num_images: 9\nstacks:\n  s:\n  - path: x\n")
    found = studio.problems("extends: base/house.yaml\njobs:\n- prompt: a\n  strength: 7\n")
    assert [line.split(": ")[0] for line in found] == ["base/house.yaml:3:15", "base/house.yaml:6:11", "p.yaml:4:13"]


def test_a_long_chain_of_presets_is_refused(studio) -> None:
    for number in range(105):
        studio.write(f"{number}.yaml", f"extends: {number + 1}.yaml\njobs: [{{prompt: a}}]\n")
    (found,) = studio.problems("extends: 0.yaml")
    assert "more than 100 files" in found


def test_several_files_report_together(studio) -> None:
    one = studio.write("one.yaml", "jobs:\n- prompt: 1\n")
    two = studio.write("two.yaml", "jobs:\n- prompt: a\n  seed: x\n")
    with pytest.raises(PresetError) as caught:
        load_presets(one, two)
    assert len(caught.value.problems) == 2
    assert "one.yaml:2:11: " in str(caught.value) and "two.yaml:3:9: " in str(caught.value)


def test_a_missing_path_and_empty_input(studio) -> None:
    studio.write("near.yaml", "jobs: [{prompt: a}]")
    with pytest.raises(NotFoundError, match=r"no such file; did you mean 'near\.yaml'"):
        load_presets("neat.yaml")
    with pytest.raises(NotFoundError, match="standard input"):
        load_presets("-", options=LoadOptions(stdin=b"\n \n"))


def test_too_many_jobs_show_the_multiplication(studio) -> None:
    text = "vars: {p: [a, b]}\nmatrix: {seed: [1, 2, 3]}\njobs:\n- {id: j, prompt: '${p} {x|y}'}\n"
    found = studio.problems(text, max_jobs=11)
    assert "2 × 3 × 2 = 12 jobs, more than the limit of 11" in found[0] and "--max-jobs 12" in found[0]
    loaded = studio.load(text, max_jobs=12)
    assert loaded.multiplication == "2 × 3 × 2 = 12"
    assert loaded.sums == ("j: p 2 × seed 3 × choice 2 = 12",)


def test_sums_are_true(studio) -> None:
    text = """
vars: {place: [a, b]}
matrix: {stack: [s, t, u]}
stacks: {s: [], t: [{path: o/t}], u: [{path: o/u}]}
jobs:
- {id: dawn, prompt: '${place}'}
- {id: dusk, prompt: '${place}', stack: s, repeat: 2}
- {id: noon, prompt: x, stack: s}
- {id: some, prompt: '${place} {1|2|3}', sample: 4}
"""
    loaded = studio.load(text)
    assert loaded.sums == ("dawn: place 2 × stack 3 = 6", "dusk: place 2 × repeat 2 = 4", "some: sample 4")
    assert loaded.multiplication == "2 × 3 + 2 × 2 + 1 + 4 = 15" and loaded.total == len(loaded.jobs) == 15


def test_control_characters_and_secrets_in_problems_are_hidden(studio) -> None:
    found = studio.problems('jobs:\n- prompt: a\n  "x\\e[31m\\n::error::": 1\n  seed: https://u:pass@h/?token=hush\n')
    assert len(found) == 2 and not any(c in "".join(found) for c in "\x1b\n")
    assert "hush" not in "".join(found) and "pass" not in "".join(found)


def test_all_problems_of_one_prompt_and_of_what_it_uses_come_at_once(studio) -> None:
    studio.write("wildcards/a.txt", "__b__ __b__ ${x}\n__c__\n")
    studio.write("wildcards/b.txt", "__a__ __a__\n")
    text = "\n".join(
        studio.problems(
            """stacks: {s: [{path: o/1}, {path: o/2}, {path: o/3}]}
vars: {v: ["${w", "__gone__"]}
jobs:
- prompt: "${nope} __no__ ${v} __a__ {x {a|b"
- prompt: "${v}"
- {prompt: "<lora:bad:1> <lora:o/n:9> <lora:o/n", stack: [s, s], sed: 1}
"""
        )
    )
    for words in (
        'no variable "nope"',
        'no wildcard "no"',
        "vars.v: ${ is never closed",
        'vars.v: no wildcard "gone"',
        "nested more than",
        'no wildcard "c"',
        "the brace { is never closed",
        "<lora:bad:1>: ",
        "<lora:o/n:9>: 9 is out of range",
        "<lora: is never closed: the > is missing",
        "LoRAs are too many",
        "jobs[2].sed: unknown key",
    ):
        assert words in text, (words, text)


@pytest.mark.parametrize("style", ["plain", "'", '"'])
def test_the_escape_that_a_message_names_works(studio, style: str) -> None:
    quote = "" if style == "plain" else style
    for mark, text in (("{", "a {b"), ("${", "a ${b} c"), ("__", "a __b__ c")):
        (found,) = studio.problems(f"jobs:\n- prompt: {quote}{text}{quote}\n")
        escaped = text.replace(mark, ("\\\\" if style == '"' else "\\") + mark, 1)
        assert ("\\\\" if style == '"' else "\\") + mark in found
        assert studio.prompts(f"jobs:\n- prompt: {quote}{escaped}{quote}\n") == [text]

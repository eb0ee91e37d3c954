"""Every problem of every file in one go, each with place, key, value, range and nearest name."""

from __future__ import annotations

import pytest

from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import LoadOptions, load_sources
from flux_lora_cli.errors import NotFoundError, PresetError, UsageError


def test_all_problems_come_at_once_in_order(studio):
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
    starts = [line.split(": ", 1)[0] for line in found]
    assert starts == [
        "p.yaml:1:10",
        "p.yaml:2:1",
        "p.yaml:4:3",
        "p.yaml:5:24",
        "p.yaml:8:13",
        "p.yaml:9:14",
        "p.yaml:10:7",
        "p.yaml:12:11",
        "p.yaml:14:13",
        "p.yaml:16:5",
        "p.yaml:17:9",
        "p.yaml:18:13",
        "p.yaml:19:5",
    ]
    text = "\n".join(found)
    for words in (
        'modell: unknown key; did you mean "model"?',
        'defaults.steps: unknown key; did you mean "num_inference_steps"?',
        "defaults.num_inference_steps: 99 is out of range; allowed: a whole number from 1 to 50",
        'stacks.nasa[0].path: "nasa" is no LoRA path; allowed: owner/name',
        "stacks.nasa[0].scale: 9 is out of range; allowed: a number from 0 to 4",
        'matrix.stack[0]: no stack "nasaa"; did you mean "nasa"?',
        'no variable "plase" in vars; did you mean "${place}"?',
        'jobs[0].sed: unknown key; did you mean "seed"?',
        'jobs[1].id: "a b" is no id',
        "the brace { is never closed; write {a|b}, or \\{",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs:\n- seed: 1", "jobs[0]: no prompt"),
        ("jobs: []", "an empty list"),
        ("jobs: {a: b}", "no list"),
        ("version: 1", "nothing for others to extend"),
        ("jobs:\n- prompt: a\n  prompts_file: b.txt", "not both"),
        ("jobs:\n- prompts_file: b.txt", '"b.txt": no such file'),
        ("jobs:\n- prompt: a\n  image: b.png", 'jobs[0].image: "b.png": no such file'),
        ("jobs:\n- prompt: a\n  image: ftp://x/y.png", "not a URL that the service can fetch"),
        ("jobs:\n- prompt: a\n  image: data:text/html;base64,aGk=", "no data URI of an image"),
        ("jobs:\n- prompt: a\n  seed: [1, 2]", "list them under matrix"),
        ("jobs:\n- prompt: a\n  model: flux-dev-lora", "stands at the top of the file"),
        ("jobs:\n- prompt: a\n  output_format: png", "API v3"),
        ("jobs:\n- prompt: a\n  loras: owner/name", "a list"),
        ("jobs:\n- prompt: a\n  loras: ['owner/name:0.5']", "write {path: owner/name, scale: 0.5}"),
        ("jobs:\n- prompt: a\n  loras: [{scale: 1}]", '"path" is missing'),
        ("jobs:\n- prompt: '<lora:owner/x:9>'", "<lora:owner/x:9>: 9 is out of range"),
        ("jobs:\n- {id: a, prompt: x}\n- {id: a, prompt: y}", '"a" is a duplicate; it already stands in line 2'),
        ("jobs:\n- prompt: a\n  repeat: 0", "1 to 100000"),
        ("jobs:\n- prompt: a\n  seed: 9999999999\n  repeat: 2", "count up from 9999999999 to 10000000000"),
        ("jobs:\n- prompt: a\n  seed: 1\n  matrix: {seed: [1, 2]}", "sets seed itself"),
        ("matrix: {seed: []}\njobs:\n- prompt: a", "an empty list"),
        ("matrix: {seed: 1}\njobs:\n- prompt: a", "allowed: a list"),
        ("matrix: {steps: [1]}\njobs:\n- prompt: a", '"num_inference_steps"'),
        ("vars: {x: [a, no]}\njobs:\n- prompt: a", "vars.x[1]: no without quotes is a boolean"),
        ("vars: {x: '${y}', y: '${x}'}\njobs:\n- prompt: '${x}'", "in a circle: x → y → x"),
        ("jobs:\n- prompt: 'a __dog__'", 'no wildcard "dog"'),
        ("jobs:\n- prompt: '${x'", "never closed"),
        ("jobs:\n- prompt: a\n  stack: nasa", 'no stack "nasa"; known: none'),
        ("model: flux-dev-lra\njobs:\n- prompt: a", 'model: no model "flux-dev-lra"; did you mean "flux-dev-lora"?'),
        ("defaults: {repeat: 2}\njobs:\n- prompt: a", "stands in a job, not in defaults"),
        ("extends: nope.yaml\njobs:\n- prompt: a", '"nope.yaml": no such file'),
        ("extends: p.yaml\njobs:\n- prompt: a", "in a circle: p.yaml → p.yaml"),
        ("extends: []\njobs:\n- prompt: a", "an empty list"),
    ],
)
def test_problem_says_what_and_what_is_allowed(studio, text, words):
    found = studio.problems(text)
    assert found and words in found[0], found


def test_models_differ_in_steps_and_loras(studio):
    job = "jobs:\n- prompt: a\n  num_inference_steps: 28\n"
    assert studio.problems(f"model: flux-dev-lora\n{job}") == []
    assert "1 to 8" in studio.problems(f"model: flux-schnell-lora\n{job}")[0]
    loras = "jobs:\n- prompt: '<lora:e/e:1>'\n  loras: [" + ", ".join(["{path: a/b, scale: 1}"] * 5) + "]\n"
    assert "6 LoRAs are too many; allowed: at most 5" in studio.problems(loras)[0]
    assert "at most 3" in studio.problems(f"model: flux-schnell-lora\n{loras}")[0]


def test_stacks_joined_count_too(studio):
    text = "stacks:\n  a: &a [{path: o/a}, {path: o/b}, {path: o/c}]\n  b: *a\njobs:\n- prompt: x\n  stack: [a, b]\n"
    assert "6 LoRAs are too many" in studio.problems(text)[0]


def test_places_survive_extends(studio):
    studio.write("base/house.yaml", "version: 1\ndefaults:\n  num_images: 9\nstacks:\n  s:\n  - path: x\n")
    found = studio.problems("extends: base/house.yaml\njobs:\n- prompt: a\n  strength: 7\n")
    places = {":".join(line.split(":")[:3]) for line in found}
    assert {place.rpartition("/")[2] for place in places} == {"house.yaml:3:15", "house.yaml:6:11", "p.yaml:4:13"}


def test_places_in_csv(studio):
    found = studio.problems('prompt,sed,num_images\n"a, b",1,2\n"two\nlines",1,9\nc,1,2,3\n', "j.csv")
    assert [line.split(": ", 1)[0] for line in found] == ["j.csv:1:8", "j.csv:4:10", "j.csv:5:7"]
    assert 'did you mean "seed"?' in found[0]
    assert "1 to 4" in found[1]
    assert "4 cells under 3 columns" in found[2]


def test_places_in_json_lines(studio):
    lines = ['{"prompt": "a", "seed": "x"}', "", "{bad}", '{"prompt": NaN}', '["a"]', '{"prompt": "a", "prompt": "b"}']
    found = studio.problems("\n".join(lines), "j.jsonl")
    assert [line.split(": ", 1)[0] for line in found] == [
        "j.jsonl:1:25",
        "j.jsonl:3:2",
        "j.jsonl:4:12",
        "j.jsonl:5:1",
        "j.jsonl:6:17",
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "\n# only\n"), ("a.csv", "prompt\n"), ("a.jsonl", "\n"), ("a.csv", "")]
)
def test_files_without_jobs(studio, name, text):
    assert studio.problems(text, name)


def test_several_files_report_together(studio):
    one = studio.write("one.yaml", "jobs:\n- prompt: no\n")
    two = studio.write("two.yaml", "jobs:\n- prompt: a\n  seed: x\n")
    with pytest.raises(PresetError) as caught:
        load_sources([str(one), str(two)], FolderPresetFiles(), LoadOptions())
    assert len(caught.value.problems) == 2
    assert "one.yaml:2:11: " in str(caught.value) and "two.yaml:3:9: " in str(caught.value)


def test_missing_paths_and_empty_input(studio):
    with pytest.raises(NotFoundError, match="no such file"):
        studio.load("nope.yaml")
    for empty in ("", "\n \n", None):
        with pytest.raises(NotFoundError, match="standard input"):
            load_sources(["-"], FolderPresetFiles(), LoadOptions(stdin=empty))


def test_too_many_jobs_show_the_multiplication(studio):
    text = "vars: {p: [a, b]}\nmatrix: {seed: [1, 2, 3]}\njobs:\n- prompt: '${p} {x|y}'\n"
    found = studio.problems(text, max_jobs=11)
    assert "2 × 3 × 2 = 12 jobs, more than the limit of 11" in found[0] and "--max-jobs 12" in found[0]
    assert studio.load("p.yaml", text, max_jobs=12).multiplication == "2 × 3 × 2 = 12"


def test_control_characters_in_problems_are_escaped(studio):
    found = studio.problems('jobs:\n- prompt: a\n  "x\\e[31m\\n::error::": 1\n')
    assert len(found) == 1 and "\x1b" not in found[0] and "\n" not in found[0]


def test_unknown_model_is_allowed_when_asked_and_checked_loosely(studio):
    text = "model: other/model\njobs:\n- prompt: a\n  num_inference_steps: 900\n  aspect: 16/9\n"
    job = studio.load("p.yaml", text, allow_unknown_model=True).jobs[0]
    assert job.model == "other/model"
    assert job.params == {"prompt": "a", "num_inference_steps": 900, "aspect": "16/9"}
    assert studio.problems("model: other/model\njobs:\n- prompt: a\n  seed: x\n", allow_unknown_model=True)


def test_an_override_out_of_range_is_wrong_usage(studio):
    for options in ({"overrides": {"num_inference_steps": 99}}, {"set_overrides": {"sed": 1}}):
        with pytest.raises(UsageError, match=r"--steps|--set sed"):
            studio.load("p.yaml", "jobs:\n- prompt: a\n", **options)


def test_a_duplicate_key_is_named_by_its_path(studio):
    text = "jobs:\n- {prompt: a, loras: [{path: o/n}, {path: o/n, path: o/m}]}\n"
    text += "- prompt: b\n  seed: 1\n  seed: 2\njobs: 1\n"
    found = studio.problems(text)
    assert [line.split(";")[0] for line in found] == [
        'p.yaml:2:48: jobs[0].loras[1].path: the key "path" is a duplicate',
        'p.yaml:5:3: jobs[1].seed: the key "seed" is a duplicate',
        'p.yaml:6:1: jobs: the key "jobs" is a duplicate',
    ]
    lines = '{"prompt": "a"}\n{"prompt": "a", "loras": [{"path": "o/n", "path": "o/m"}], "seed": 1, "seed": 2}\n'
    assert [line.split(";")[0] for line in studio.problems(lines, "p.jsonl")] == [
        'p.jsonl:2:43: line 2.loras[0].path: the key "path" is a duplicate',
        'p.jsonl:2:71: line 2.seed: the key "seed" is a duplicate',
    ]


def test_all_problems_of_one_prompt_and_of_its_loras_come_at_once(studio):
    studio.write("wildcards/a.txt", "__b__ __b__ ${x}\n__c__\n")
    studio.write("wildcards/b.txt", "__a__ __a__\n")
    found = studio.problems(
        """stacks: {s: [{path: o/1}, {path: o/2}, {path: o/3}]}
vars: {v: ["${w", "__gone__"]}
jobs:
- prompt: "${nope} __no__ ${v} __a__ {x <lora:bad:1> <lora:o/n:9> <lora:o/n {a|b"
- {prompt: x, stack: [s, s], sed: 1}
"""
    )
    text = "\n".join(found)
    for words in (
        'no variable "nope"',
        'no wildcard "no"',
        "in vars.v (line 2): ${ is never closed",
        'in vars.v (line 2): no wildcard "gone"',
        "nested more than",
        'no wildcard "c"',
        "the brace { is never closed",
        '<lora:bad:1>: "bad" is no LoRA path',
        "<lora:o/n:9>: 9 is out of range",
        "<lora: is never closed: the > is missing",
        "jobs[1].loras: 6 LoRAs are too many",
        "jobs[1].sed: unknown key",
    ):
        assert words in text, (words, text)


def test_expansion_is_not_tried_where_there_are_too_many_jobs(studio):
    text = "jobs:\n- {prompt: 'x <lora:bad:1>', repeat: 5, sed: 1}\n"
    assert "no LoRA path" in "\n".join(studio.problems(text, max_jobs=5))
    found = "\n".join(studio.problems(text, max_jobs=4))
    assert "no LoRA path" not in found and "more than the limit" in found and "sed" in found


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "./x", "a/../../x", "a/.."])
def test_a_wildcard_that_leaves_its_folder_is_an_error(studio, name):
    studio.write("x.txt", "secret\n")
    (found,) = studio.problems(f"jobs:\n- prompt: 'a __{name}__'\n")
    assert f'the wildcard "{name}" leaves the folder' in found and f"\\__{name}__" in found
    assert studio.prompts(f"jobs:\n- prompt: 'a \\__{name}__'\n") == [f"a __{name}__"]


@pytest.mark.parametrize(
    ("text", "words", "never"),
    [
        ("jobs:\n- {prompt: a, seed: 1e999}", "1e999 is a huge number", "inf"),
        ("jobs:\n- {prompt: a, seed: }", "jobs[0].seed: there is nothing here", "nothing is"),
        ("jobs:\n- {prompt: a, repeat: }", "jobs[0].repeat: there is nothing here", "nothing is"),
        ("jobs:\n- {prompt: a, skip: }", "jobs[0].skip: there is nothing here", "nothing is"),
        ("jobs:\n- {prompt: a, loras: [{path: o/n, scale: }]}", "scale: there is nothing here", "nothing is"),
        ("jobs:\n- prompt: a <lora:o/n e", "the > is missing", "inf"),
        ("jobs:\n- prompt: a __s__", "lies outside", "did you mean"),
    ],
)
def test_words(studio, tmp_path_factory, text, words, never):
    outside = tmp_path_factory.mktemp("outside") / "s.txt"
    outside.write_text("secret")
    (studio.folder / "wildcards").mkdir()
    (studio.folder / "wildcards" / "s.txt").symlink_to(outside)
    (found,) = studio.problems(text)
    assert words in found and never not in found

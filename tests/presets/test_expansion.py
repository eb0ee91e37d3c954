"""From presets to jobs: what multiplies, what does not, and how the jobs are called."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOUSE = """
version: 1
name: nasa-posters
model: flux-dev-lora
defaults:
  size: 1024*1024
  num_inference_steps: 28
stacks:
  nasa:
    - path: davanstrien/nasa_concept_art-flux-lora
      scale: 0.9
  plain: []
vars:
  place: [a lunar base, the rings of Saturn]
matrix:
  stack: [nasa, plain]
  seed: [1, 2]
jobs:
  - id: dawn
    prompt: "${place} at dawn, travel poster"
  - prompt: "{a red|a blue} rocket, <lora:owner/retro:0.6>"
    stack: nasa
    num_inference_steps: 12
    repeat: 3
"""


def test_the_example_of_the_language(studio):
    loaded = studio.load("p.yaml", HOUSE)
    ids = [job.id for job in loaded.jobs]
    assert ids[0] == "dawn/a-lunar-base/nasa/1"
    assert ids[7] == "dawn/the-rings-of-saturn/plain/2"
    assert ids[8] == "a-red-a-blue-rocket/1/a-red/1"
    assert len(ids) == len(set(ids)) == loaded.total == 8 + 2 * 2 * 3
    rocket = loaded.jobs[8]
    assert rocket.params["prompt"] == "a red rocket"
    assert rocket.params["num_inference_steps"] == 12
    assert [lora["path"] for lora in rocket.params["loras"]] == [
        "davanstrien/nasa_concept_art-flux-lora",
        "owner/retro",
    ]
    assert loaded.names == ("nasa-posters",)
    assert loaded.sources[0][0].endswith("p.yaml") and len(loaded.sources[0][1]) == 64
    assert "seed" not in rocket.params and rocket.seed == 1


def test_repeats_count_up_from_a_fixed_seed_and_are_drawn_without(studio):
    jobs = studio.load(
        "p.yaml", "jobs:\n- {id: a, prompt: x, seed: 5, repeat: 2}\n- {id: b, prompt: x, repeat: 2}\n"
    ).jobs
    assert [(j.id, j.seed, j.repeat) for j in jobs] == [
        ("a/1", 5, 1),
        ("a/2", 6, 2),
        ("b/1", None, 1),
        ("b/2", None, 2),
    ]


def test_seed_minus_one_is_none(studio):
    assert studio.load("p.yaml", "jobs:\n- {prompt: x, seed: -1}\n").jobs[0].seed is None


def test_a_lora_without_scale_gets_one(studio):
    job = studio.load("p.yaml", "jobs:\n- {prompt: x, loras: [{path: o/n}]}\n").jobs[0]
    assert job.params["loras"] == [{"path": "o/n", "scale": 1}]


def test_a_job_that_sets_a_key_is_not_multiplied_by_its_axis(studio):
    text = (
        "matrix: {seed: [1, 2], guidance_scale: [2, 3]}\njobs:\n- {id: a, prompt: x, seed: 9}\n- {id: b, prompt: x}\n"
    )
    assert studio.ids(text) == ["a/2", "a/3", "b/1/2", "b/1/3", "b/2/2", "b/2/3"]


def test_a_jobs_own_matrix_goes_over_the_files(studio):
    text = "matrix: {seed: [1, 2]}\njobs:\n- {id: a, prompt: x, matrix: {seed: [7], num_images: [1, 2]}}\n"
    assert studio.ids(text) == ["a/7/1", "a/7/2"]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{a {x|y}|b}", ["a x", "a y", "b"]),
        ("{|very }big", ["big", "very big"]),
        ("${v} and ${v}", ["one and one", "two and two"]),
        (r"\{a|b\} \${v} \__w__", ["{a|b} ${v} __w__"]),
        ("{a} and { b }", ["{a} and { b }"]),
        ("{${v}} x", ["{one} x", "{two} x"]),
        (r"{a\|b|c\}}", ["a|b", "c}"]),
        ("5$ a_b __ } x__y \\n", ["5$ a_b __ } x__y \\n"]),
        ("${lone}", ["single"]),
        ("${nested}", ["a one", "b", "a two"]),
        ("__animals/cats__", ["tabby", "tom"]),
        ("__deep__", ["big tabby", "big tom", "small"]),
    ],
)
def test_prompts(studio, prompt, texts):
    studio.write("wildcards/animals/cats.txt", "# cats\ntabby\n\ntom\n")
    studio.write("wildcards/deep.txt", "big __animals/cats__\nsmall\n")
    text = "vars: {v: [one, two], lone: single, unused: [1, 2, 3], nested: ['a ${v}', b]}\n"
    text += f"jobs:\n- id: j\n  prompt: '{prompt}'\n"
    found = studio.prompts(text)
    assert list(dict.fromkeys(found)) == texts


def test_wildcards_that_name_themselves_end(studio):
    studio.write("wildcards/loop.txt", "a __loop__\n")
    assert "nested more than" in studio.problems("jobs:\n- prompt: '__loop__'\n")[0]


def test_unknown_wildcard_offers_the_nearest(studio):
    studio.write("wildcards/animals/cats.txt", "tom\n")
    found = studio.problems("jobs:\n- prompt: 'a __animals/cat__'\n")[0]
    assert "__animals/cats__" in found and "\\__animals/cat__" in found


@pytest.mark.parametrize(
    ("prompt", "left", "loras"),
    [
        ("a cat <lora:o/n:0.5>", "a cat", [("o/n", 0.5)]),
        ("a <lora:o/n:0.5> cat", "a cat", [("o/n", 0.5)]),
        ("a cat, <lora:o/n>, x", "a cat, x", [("o/n", 1)]),
        ("<lora:https://h.co/o/n:2>a", "a", [("https://h.co/o/n", 2)]),
        ("{<lora:o/a:1>|<lora:o/b:1>} x", "x", [("o/a", 1)]),
    ],
)
def test_lora_tags_move_to_the_stack(studio, prompt, left, loras):
    job = studio.load("p.yaml", f"jobs:\n- prompt: '{prompt}'\n").jobs[0]
    assert job.params["prompt"] == left
    assert [(lora["path"], lora["scale"]) for lora in job.params["loras"]] == loras


def test_prompts_file(studio):
    studio.write("ideas.txt", "# ideas\na {red|blue} fox\na hen\n")
    loaded = studio.load("p.yaml", "jobs:\n- prompts_file: ideas.txt\n  id: idea\n  seed: 1\n")
    assert [job.id for job in loaded.jobs] == ["idea/a-red-blue-fox/red", "idea/a-red-blue-fox/blue", "idea/a-hen"]
    assert loaded.jobs[2].where.line == 3
    assert any(path.endswith("ideas.txt") for path, _ in loaded.sources)
    assert studio.ids("jobs:\n- prompts_file: ideas.txt\n")[2] == "a-hen"


def test_ids_stay_when_a_job_is_added_elsewhere(studio):
    jobs = [
        "- prompt: a cat\n",
        "- prompt: 'a {b|c}'\n",
        "- prompt: a dog\n  seed: 1\n",
        "- prompt: a dog\n  seed: 2\n",
    ]
    before = studio.ids("jobs:\n" + "".join(jobs))
    for place in range(len(jobs) + 1):
        more = [*jobs[:place], "- prompt: a new one\n", *jobs[place:]]
        assert [i for i in studio.ids("jobs:\n" + "".join(more)) if i != "a-new-one"] == before


def test_ids_are_unique_and_explicit_ones_win(studio):
    ids = studio.ids("jobs:\n- prompt: A cat!\n- prompt: a cat\n- prompt: a cat\n- {id: a-cat, prompt: dog}\n")
    assert len(set(ids)) == 4 and ids[3] == "a-cat"
    long = "very " * 40
    ids = studio.ids(f"jobs:\n- prompt: {long}a\n- prompt: {long}b\n")
    assert len(set(ids)) == 2 and all(len(one) <= 60 for one in ids)


def test_skip(studio):
    loaded = studio.load("p.yaml", "jobs:\n- {id: a, prompt: x, skip: true}\n- {id: b, prompt: x}\n")
    assert [job.id for job in loaded.jobs] == ["b"] and loaded.skipped == ("a",)


# ---- extends ---------------------------------------------------------------------------------


def test_extends_merges_key_by_key(studio):
    studio.write(
        "one.yaml",
        "defaults: {num_images: 2, strength: 0.3}\nstacks: {s: [{path: o/one}]}\njobs:\n- prompt: from one\n",
    )
    studio.write(
        "two.yaml", "model: flux-schnell-lora\ndefaults: {strength: 0.5}\nstacks: {s: [{path: o/two}], t: []}\n"
    )
    text = "extends: [one.yaml, two.yaml]\ndefaults: {guidance_scale: 2}\n"
    job = studio.load("p.yaml", text + "jobs:\n- {prompt: mine, stack: [s, t]}\n").jobs[0]
    assert job.model == "wavespeed-ai/flux-schnell-lora"
    assert job.params == {
        "num_images": 2,
        "strength": 0.5,
        "guidance_scale": 2,
        "prompt": "mine",
        "loras": [{"path": "o/two", "scale": 1}],
    }
    assert studio.prompts(text) == ["from one"]


def test_a_diamond_of_extends_is_no_circle(studio):
    studio.write("base.yaml", "defaults: {seed: 1}\n")
    studio.write("left.yaml", "extends: base.yaml\ndefaults: {seed: 2}\n")
    studio.write("right.yaml", "extends: base.yaml\n")
    assert studio.load("p.yaml", "extends: [left.yaml, right.yaml]\njobs:\n- prompt: a\n").jobs[0].seed == 2


# ---- sampling --------------------------------------------------------------------------------

MILLION = """
vars:
  a: [{n}]
  b: [{n}]
  c: [{n}]
jobs:
- id: j
  prompt: "${{a}} ${{b}} ${{c}}"
  sample: 10
""".format(n=", ".join(f"x{n}" for n in range(100)))


def test_sampling_is_fixed_for_ever(studio):
    """A golden list: presets are kept for years, so the drawing may never change."""
    ids = studio.ids(MILLION)
    assert ids[:3] == GOLDEN
    assert len(set(ids)) == 10
    assert studio.ids(MILLION.replace("sample: 10", "sample: 10\n  sample_seed: 1")) != ids


GOLDEN: list[str] = ["j/x14/x5/x26", "j/x25/x10/x57", "j/x43/x75/x84"]


def test_sampling_does_not_depend_on_the_hash_seed(studio):
    path = studio.write("p.yaml", MILLION)
    outputs = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "flux_lora_cli", "preset", "show", str(path), "--as", "jsonl"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1 and next(iter(outputs)).count("\n") == 10


def test_sampling_more_than_there_are_takes_all(studio):
    assert len(studio.ids("jobs:\n- {prompt: '{a|b|c}', sample: 99}\n")) == 3
    assert len(studio.ids("jobs:\n- {id: x, prompt: '{a|b|c}', sample: 2, repeat: 2}\n")) == 4


def test_sampling_is_fair():
    from flux_lora_cli.domain.presets.sampling import HashStream, sample

    drawn = [index for seed in range(400) for index in sample(10, 3, seed)]
    assert all(80 < drawn.count(n) < 160 for n in range(10))
    stream = HashStream(0)
    assert all(0 <= stream.below(10**30) < 10**30 for _ in range(50))


# ---- other formats ---------------------------------------------------------------------------


def test_text_is_literal_unless_expand(studio):
    text = "# no\na {b|c} __d__ ${e} <lora:o/n:1>\nplain\n"
    jobs = studio.load("j.txt", text).jobs
    assert [job.params["prompt"] for job in jobs] == ["a {b|c} __d__ ${e} <lora:o/n:1>", "plain"]
    assert "loras" not in jobs[0].params
    assert len(studio.load("k.txt", "a {b|c}\n", expand=True).jobs) == 2


def test_csv(studio):
    text = 'id,prompt,seed,loras,repeat,enable_safety_checker\nx,"a ""b"", c",7,o/n:0.5;o/m,2,no\n,d,,,,\n'
    jobs = studio.load("j.csv", text).jobs
    assert [(job.id, job.seed) for job in jobs] == [("x/1", 7), ("x/2", 8), ("d", None)]
    assert jobs[0].params == {
        "prompt": 'a "b", c',
        "loras": [{"path": "o/n", "scale": 0.5}, {"path": "o/m", "scale": 1}],
        "enable_safety_checker": False,
    }
    assert jobs[2].params == {"prompt": "d"}


def test_load_preset_for_scripts(studio):
    from flux_lora_cli.adapters.preset_files import load_preset

    assert [job.id for job in load_preset(studio.write("p.yaml", "jobs:\n- prompt: a\n")).jobs] == ["a"]


def test_json_lines_and_standard_input(studio):
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import LoadOptions, load_sources

    line = '{"prompt": "caf\\u00e9 \\ud83d\\ude80 {a|b}", "matrix": {"seed": [1, 2]}, "loras": [{"path": "o/n"}]}\n'
    for loaded in (
        studio.load("j.jsonl", line),
        load_sources(["-"], FolderPresetFiles(), LoadOptions(stdin=line)),
    ):
        assert [job.seed for job in loaded.jobs] == [1, 2]
        assert loaded.jobs[0].params["prompt"] == "café 🚀 {a|b}"
    assert loaded.names == ("stdin",)

"""From presets to jobs: what multiplies, what does not, and how the jobs are called."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from flux_lora_cli.presets.expand import sample

HOUSE = """
version: 1
name: nasa-posters
model: flux-dev-lora
defaults: {size: 1024*1024, num_inference_steps: 28}
stacks:
  nasa:
    - {path: davanstrien/nasa_concept_art-flux-lora, scale: 0.9}
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


def test_the_example_of_the_language(studio) -> None:
    loaded = studio.load(HOUSE)
    ids = [job.id for job in loaded.jobs]
    assert ids[0] == "dawn/a-lunar-base/nasa/1" and ids[7] == "dawn/the-rings-of-saturn/plain/2"
    assert ids[8] == "a-red-a-blue-rocket/1/a-red/1"
    assert len(ids) == len(set(ids)) == loaded.total == 8 + 2 * 2 * 3
    rocket = loaded.jobs[8]
    assert rocket.params["prompt"] == "a red rocket" and rocket.params["num_inference_steps"] == 12
    assert [lora["path"] for lora in rocket.params["loras"]] == [
        "davanstrien/nasa_concept_art-flux-lora",
        "owner/retro",
    ]
    assert "seed" not in rocket.params and rocket.seed == 1
    assert loaded.presets[0].name == "nasa-posters" and len(loaded.sources[0][1]) == 64
    assert dict(loaded.jobs[0].axes) == {"place": "a lunar base", "stack": "nasa", "seed": "1"}
    assert dict(rocket.axes) == {"seed": "1", "choice": "a red", "repeat": "1"}


def test_a_job_that_sets_a_key_is_not_multiplied_by_its_axis(studio) -> None:
    text = (
        "matrix: {seed: [1, 2], guidance_scale: [2, 3]}\njobs:\n- {id: a, prompt: x, seed: 9}\n- {id: b, prompt: x}\n"
    )
    assert studio.ids(text) == ["a/2", "a/3", "b/1/2", "b/1/3", "b/2/2", "b/2/3"]
    text = "matrix: {seed: [1, 2]}\njobs:\n- {id: a, prompt: x, matrix: {seed: [7], num_images: [1, 2]}}\n"
    assert studio.ids(text) == ["a/7/1", "a/7/2"]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{a {x|y}|b}", ["a x", "a y", "b"]),
        ("{{a|b}{c|d}|e}", ["ac", "ad", "bc", "bd", "e"]),
        ("{|very }big", ["big", "very big"]),
        ("${v} and ${v}", ["one and one", "two and two"]),
        ("{${v} a|${v} b}", ["one a", "two a", "one b", "two b"]),
        ("{${v}|y}", ["one", "two", "y"]),
        ("{${v}|x} {${v}|y}", ["one one", "two two", "one y", "two y", "x one", "x two", "x y"]),
        ("${v} {${v}|y}", ["one one", "one y", "two two", "two y"]),
        ("${w}", ["a one", "a two", "b"]),
        ("{${w}|c}", ["a one", "a two", "b", "c"]),
        ("{${w}|c} ${v}", ["a one one", "b one", "c one", "a two two", "b two", "c two"]),
        ("{x|{y|${v}}}", ["x", "y", "one", "two"]),
        (r"\{a|b\} \${v} \__w__ \<lora:o/n:1>", ["{a|b} ${v} __w__ <lora:o/n:1>"]),
        (r"{3\::a|b} \-- \|", ["3::a -- |", "b -- |"]),
        ("{a} and { b }", ["{a} and { b }"]),
        ("{${v}} x", ["{one} x", "{two} x"]),
        (r"{a\|b|c\}}", ["a|b", "c}"]),
        ("5$ a_b __ } x__y \\n", ["5$ a_b __ } x__y \\n"]),
        ("${lone}", ["single"]),
        ("__animals/cats__", ["tabby", "tom"]),
        ("__deep__", ["big tabby", "big tom", "small"]),
        ("__animals/cats__ and __animals/cats__", ["tabby and tabby", "tabby and tom", "tom and tabby", "tom and tom"]),
        ("\ufdd0 {a|b} \ufdd00 \\<", ["\ufdd0 a \ufdd00 <", "\ufdd0 b \ufdd00 <"]),
    ],
)
def test_prompts(studio, prompt: str, texts: list[str]) -> None:
    studio.write("wildcards/animals/cats.txt", "# cats\ntabby\n\ntom\n")
    studio.write("wildcards/deep.txt", "big __animals/cats__\nsmall\n")
    text = f"vars: {{v: [one, two], lone: single, w: ['a ${{v}}', b]}}\njobs:\n- id: j\n  prompt: '{prompt}'\n"
    loaded = studio.load(text)
    assert sorted(job.params["prompt"] for job in loaded.jobs) == sorted(texts)
    assert len({job.id for job in loaded.jobs}) == len(texts)


@pytest.mark.parametrize(
    ("prompt", "left", "loras"),
    [
        ("a cat <lora:o/n:0.5>", "a cat", [("o/n", 0.5)]),
        ("a <lora:o/n:0.5> cat", "a cat", [("o/n", 0.5)]),
        ("a cat, <lora:o/n>, x", "a cat, x", [("o/n", 1)]),
        ("<lora:https://h.co/o/n:2>a", "a", [("https://h.co/o/n", 2)]),
        ("{<lora:o/a:1>|<lora:o/b:1>} x", "x", [("o/a", 1)]),
        ("<lora:o/${n}:1> \\<lora:o/n:1>", "<lora:o/n:1>", [("o/v", 1)]),
    ],
)
def test_lora_tags_move_to_the_stack(studio, prompt: str, left: str, loras: list[tuple[str, float]]) -> None:
    job = studio.load(f"vars: {{n: v}}\njobs:\n- prompt: '{prompt}'\n").jobs[0]
    assert job.params["prompt"] == left
    assert [(lora["path"], lora["scale"]) for lora in job.params["loras"]] == loras


def test_wildcards_that_name_themselves_end(studio) -> None:
    studio.write("wildcards/loop.txt", "a __loop__\n")
    assert "nested more than" in studio.problems("jobs:\n- prompt: '__loop__'\n")[0]


def test_a_wildcard_of_too_much_in_a_choice(studio) -> None:
    studio.write("wildcards/w.txt", "{a|b}" * 20 + "\n")
    assert "the choices in this file" in studio.problems("jobs:\n- prompt: '{__w__|c}'\n")[0]


def test_wildcards_stand_beside_the_file_that_uses_them(studio) -> None:
    studio.write("base/wildcards/w.txt", "inner\n")
    studio.write("wildcards/w.txt", "outer\n")
    studio.write("base/b.yaml", "vars: {v: ['__w__']}\n")
    assert studio.prompts("extends: base/b.yaml\njobs: [{prompt: '${v} __w__'}]") == ["inner outer"]


def test_prompts_file(studio) -> None:
    studio.write("ideas.txt", "# ideas\na {red|blue} fox\na hen\n")
    loaded = studio.load("jobs:\n- prompts_file: ideas.txt\n  id: idea\n  seed: 1\n")
    assert [job.id for job in loaded.jobs] == ["idea/a-red-blue-fox/red", "idea/a-red-blue-fox/blue", "idea/a-hen"]
    assert loaded.jobs[2].where.line == 3 and loaded.jobs[2].axes == {"prompt": "a hen"}
    assert any(path.endswith("ideas.txt") for path, _ in loaded.sources)
    assert studio.ids("jobs:\n- prompts_file: ideas.txt\n")[2] == "a-hen"


# ---- matrix, zip, scale ------------------------------------------------------------------------


def test_zip_ties_axes_together(studio) -> None:
    text = "zip: {prompt: [a cat, a dog], seed: [7, 8]}\njobs:\n- {id: j}\n- {id: k, seed: 1}\n- {id: l, prompt: x}\n"
    jobs = studio.load(text).jobs
    assert [(j.id, j.params["prompt"], j.seed) for j in jobs] == [
        ("j/a-cat-7", "a cat", 7), ("j/a-dog-8", "a dog", 8), ("k/a-cat", "a cat", 1), ("k/a-dog", "a dog", 1),
        ("l/7", "x", 7), ("l/8", "x", 8),
    ]  # fmt: skip
    assert dict(jobs[0].axes)["seed"] == "7"
    text = "matrix: {num_images: [1, 2]}\njobs:\n- {id: j, prompt: x, zip: {size: [512*512, 600*600], seed: [1, 2]}}\n"
    assert studio.ids(text) == ["j/1/512x512-1", "j/1/600x600-2", "j/2/512x512-1", "j/2/600x600-2"]


def test_a_matrix_of_prompts(studio) -> None:
    text = "matrix: {prompt: ['a {b|c}', d], seed: [1]}\njobs:\n- {id: j}\n- {id: k, prompt: own}\n"
    assert studio.ids(text) == ["j/a-b-c/1/b", "j/a-b-c/1/c", "j/d/1", "k/1"]


@pytest.mark.parametrize(
    ("scale", "scales"),
    [("[0.5, 0.8]", {"j/0.5": [1, 0.5], "j/0.8": [1, 0.8]}), ("{o/a: [0.5], o/b: [2]}", {"j/0.5/2": [0.5, 2]})],
)
def test_a_matrix_of_scales(studio, scale: str, scales: dict[str, list[float]]) -> None:
    text = f"matrix: {{scale: {scale}}}\njobs: [{{id: j, prompt: x, loras: [{{path: o/a}}, {{path: o/b}}]}}]"
    assert {job.id: [lora["scale"] for lora in job.params["loras"]] for job in studio.load(text).jobs} == scales


def test_a_scale_makes_equals_of_jobs_without_loras(studio) -> None:
    text = "stacks: {a: [{path: o/a}], none: []}\nmatrix: {stack: [a, none], scale: [0.5, 1]}\n"
    loaded = studio.load(text + "jobs: [{id: j, prompt: x}]\n")
    assert len(loaded.jobs) == 4 and "1 duplicate of j/none/0.5 (j/none/1)" in loaded.notes[-1].message


# ---- names -------------------------------------------------------------------------------------


def test_ids_stay_when_a_job_is_added_elsewhere(studio) -> None:
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


def test_ids_are_unique_and_explicit_ones_win(studio) -> None:
    ids = studio.ids("jobs:\n- prompt: A cat!\n- prompt: a cat\n- prompt: a cat\n- {id: a-cat, prompt: dog}\n")
    assert len(set(ids)) == 4 and ids[3] == "a-cat"
    long = "very " * 40
    ids = studio.ids(f"jobs:\n- prompt: {long}a\n- prompt: {long}b\n- prompt: ''\n- prompt: '!'\n- prompt: 猫と犬\n")
    assert len(set(ids)) == 5 and all(len(one) <= 60 for one in ids) and ids[4] == "猫と犬"
    assert studio.ids("vars: {v: ['a!', 'a?']}\njobs: [{id: j, prompt: '${v} {b!|b?}'}]")[0] == "j/a/b"


def test_ids_do_not_depend_on_where_the_images_lie(studio, png) -> None:
    text = "jobs:\n- {prompt: a, image: x.png}\n- {prompt: a, image: y.png}\n"
    text += "- {prompt: b, matrix: {image: [x.png, sub/x.png]}}\n"
    for folder in ("one", "two"):
        for number, name in enumerate(("x.png", "y.png", "sub/x.png")):
            studio.write(f"{folder}/{name}", png + bytes([number]))
    one, two = (studio.ids(text, f"{folder}/p.yaml") for folder in ("one", "two"))
    assert one == two and len(set(one)) == 4


# ---- extends ---------------------------------------------------------------------------------


def test_extends_merges_key_by_key(studio) -> None:
    studio.write(
        "one.yaml", "defaults: {num_images: 2, seed: 3}\nstacks: {s: [{path: o/one}]}\njobs:\n- prompt: from one\n"
    )
    studio.write("two.yaml", "model: flux-schnell-lora\ndefaults: {seed: 5}\nstacks: {s: [{path: o/two}], t: []}\n")
    text = "extends: [one.yaml, two.yaml]\ndefaults: {size: 512*512}\n"
    job = studio.load(text + "jobs:\n- {prompt: mine, stack: [s, t]}\n").jobs[0]
    assert (job.model, job.seed) == ("wavespeed-ai/flux-schnell-lora", 5)
    loras = [{"path": "o/two", "scale": 1}]
    assert job.params == {"num_images": 2, "size": "512*512", "prompt": "mine", "loras": loras}
    assert studio.prompts(text) == ["from one"]


def test_a_diamond_of_extends_is_no_circle(studio) -> None:
    studio.write("base.yaml", "defaults: {seed: 1}\n")
    studio.write("left.yaml", "extends: base.yaml\ndefaults: {seed: 2}\n")
    studio.write("right.yaml", "extends: base.yaml\n")
    assert studio.params("extends: [left.yaml, right.yaml]\njobs:\n- prompt: a\n")["seed"] == 2


def test_what_each_value_came_from(studio) -> None:
    studio.write("base.yaml", "defaults:\n  num_images: 2\n  size: 512*512\nstacks:\n  s:\n  - path: o/n\n")
    text = (
        "extends: base.yaml\ndefaults: {size: 600*600}\nmatrix:\n  seed: [1,\n    2]\njobs:\n- prompt: a\n  stack: s\n"
    )
    loaded = studio.load(text, overrides={"num_inference_steps": 5})
    why = {name: f"{w.file.rpartition('/')[2]}:{w.line}" for name, w in loaded.provenance(loaded.jobs[1]).items()}
    assert why == {
        "num_images": "base.yaml:2", "size": "p.yaml:2", "seed": "p.yaml:5", "prompt": "p.yaml:7", "loras": "p.yaml:8",
        "num_inference_steps": "--steps:0",
    }  # fmt: skip


# ---- sampling --------------------------------------------------------------------------------

MANY = ", ".join(f"x{n}" for n in range(100))
MILLION = (
    f"vars: {{a: [{MANY}], b: [{MANY}], c: [{MANY}]}}\njobs:\n- id: j\n  prompt: '${{a}} ${{b}} ${{c}}'\n  sample: 10\n"
)
#: Presets are kept for years, so the drawing may never change.
GOLDEN = ["j/x14/x5/x26", "j/x25/x10/x57", "j/x43/x75/x84"]


def test_sampling_is_fixed_for_ever(studio) -> None:
    ids = studio.ids(MILLION)
    assert ids[:3] == GOLDEN and len(set(ids)) == 10
    assert studio.ids(MILLION + "  sample_seed: 1\n") != ids


def test_sampling_more_than_there_are_takes_all(studio) -> None:
    assert len(studio.ids("jobs:\n- {prompt: '{a|b|c}', sample: 99}\n")) == 3
    assert len(studio.ids("jobs:\n- {id: x, prompt: '{a|b|c}', sample: 2, repeat: 2}\n")) == 4


def test_sampling_is_fair() -> None:
    drawn = Counter(index for seed in range(400) for index in sample(10, 3, seed))
    assert all(80 < drawn[n] < 160 for n in range(10))
    assert len(set(sample(10**40, 50, 1))) == 50


def test_beyond_all_numbers(studio) -> None:
    """2 to the power of 4,000 combinations: counted, refused, and still sampled."""
    prompt = "{a|b}" * 4_000
    assert "over 10^1203" in studio.problems(f"jobs:\n- {{id: j, prompt: '{prompt}'}}\n")[0]
    assert len(studio.prompts(f"jobs:\n- {{id: j, sample: 1, prompt: '{prompt}'}}\n")[0]) == 4_000


#: (vars, prompt, number of jobs): what small texts make too much of, each far below a megabyte.
BOUNDED = {
    "choices that use variables or not": ("vars: {" + ", ".join(f"v{n}: [a, b]" for n in range(20)) + "}\n",
                                          "".join(f"{{${{v{n}}}|x}}" for n in range(20)), 1),
    "wide choices": ("", "{" + "{a|b}" * 12 + "|c}", 200),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
def test_all_prompts_of_a_file_have_one_bound(studio, name: str) -> None:
    shared, prompt, count = BOUNDED[name]
    text = shared + "jobs:\n" + f"- {{sample: 1, prompt: '{prompt}'}}\n" * count
    started = time.process_time()
    assert "the choices in this file" in studio.problems(text)[0]
    assert time.process_time() - started < 3


def test_a_chain_of_variables_in_a_branch(studio) -> None:
    text = "vars:\n" + "".join(f"  v{n}: ['${{v{n + 1}}}']\n" for n in range(8_000)) + "  v8000: [x, y]\n"
    assert studio.prompts(text + "jobs: [{prompt: '{${v0}|q}'}]\n") == ["x", "y", "q"]


def test_ten_choices_with_a_variable_each(studio) -> None:
    text = "vars: {" + ", ".join(f"v{n}: [a, b]" for n in range(10)) + "}\njobs:\n- {id: j, sample: 9, prompt: '"
    loaded = studio.load(text + "".join(f"{{${{v{n}}}|c}}" for n in range(10)) + "'}\n")
    assert loaded.presets[0].specs[0].plans[0].total == 2**10
    assert sum(plan.total for plan in loaded.presets[0].specs[0].plans) == 3**10


def test_no_id_holds_a_secret_of_a_url(studio) -> None:
    text = "matrix: {loras: [[{path: 'https://x.co/l?token=HUSH'}], []]}\n"
    text += "vars: {v: ['https://u:HUSH@x.co/a', c]}\n"
    text += "jobs: [{prompt: 'a {<lora:https://x.co/m?token=HUSH:1>|b} ${v}'}]\n"
    jobs = studio.load(text).jobs
    assert len(jobs) == 8 and "hush" not in str([(job.id, job.axes) for job in jobs]).lower()

"""Lists of jobs: text, CSV, JSON Lines, standard input."""

from __future__ import annotations

import pytest

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.presets.load import LoadOptions, load_presets


def test_text_is_literal_unless_expand(studio) -> None:
    text = "# no\na {b|c} __d__ ${e} <lora:o/n:1>\nplain\n"
    jobs = studio.load(text, "j.txt").jobs
    assert [job.params for job in jobs] == [{"prompt": "a {b|c} __d__ ${e} <lora:o/n:1>"}, {"prompt": "plain"}]
    assert len(studio.load("a {b|c}\n", "k.txt", expand=True).jobs) == 2


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("j.txt", ["# note", "a cat", "", "a dog\u2028", " a hen "]),
        ("j.csv", ["prompt,seed", "a cat,1", "a dog\u2028,2", "a hen,3"]),
        ("j.jsonl", ['{"prompt": "a cat"}', '{"prompt": "a dog\u2028"}', '{"prompt": "a hen"}']),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(studio, end: str, mark: str, name: str, lines: list[str]) -> None:
    found = studio.prompts(end.join(mark + line for line in lines), name)
    assert [prompt.strip() for prompt in found] == ["a cat", "a dog", "a hen"]


@pytest.mark.parametrize("name", ["j.txt", "j.csv", "j.jsonl"])
@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x85", "\x0b"])
def test_control_characters_are_refused_with_their_place(studio, name: str, character: str) -> None:
    text = {"j.txt": "a\nb {}c", "j.csv": "prompt\nb {}c", "j.jsonl": '{{"prompt": "a"}}\n{{"prompt": "b {}c"}}'}[name]
    (found,) = studio.problems(text.format(character), name)
    column = 15 if name == "j.jsonl" else 3
    assert found.startswith(f"{name}:2:{column}: the control character U+{ord(character):04X}")


def test_csv(studio) -> None:
    text = 'id,prompt,seed,loras,repeat,enable_safety_checker\nx,"a ""b"", c",7,o/n:0.5;o/m,2,no\n,d,,,,\n'
    jobs = studio.load(text, "j.csv").jobs
    assert [(job.id, job.seed) for job in jobs] == [("x/1", 7), ("x/2", 8), ("d", None)]
    loras = [{"path": "o/n", "scale": 0.5}, {"path": "o/m", "scale": 1}]
    assert jobs[0].params == {"prompt": 'a "b", c', "loras": loras, "enable_safety_checker": False}
    assert jobs[2].params == {"prompt": "d"}


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ('id, prompt\nk, "a cup, old"\n', ["a cup, old"]),
        ("prompt,seed\n# second batch,\na cup,1\n", ["a cup"]),
        ('prompt,seed\n"# of cups",1\n', ["# of cups"]),
        ('prompt,seed\n  # second batch,\n"# second, and last",\na cup,1\n', ["a cup"]),
        ('prompt\n"two\nlines"\n\nthree\n', ["two\nlines", "three"]),
        ("prompt,seed\na cup\n", ["a cup"]),
        ("prompt,seed\na cup,1,,\n", ["a cup"]),
    ],
)
def test_csv_as_people_write_it(studio, text: str, prompts: list[str]) -> None:
    assert studio.prompts(text, "j.csv") == prompts


def test_a_cell_may_be_called_as_a_column(studio) -> None:
    assert studio.ids("id,prompt\nprompt,a cat\n", "a.csv") == ["prompt"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("prompt;seed;size\na cup;1;512*512\n", "1:1", "separated by commas: no semicolons"),
        ("sep=;\nprompt;seed\n", "1:1", "sep="),
        ("sep=,\nprompt,seed\na,1\n", "1:1", "sep="),
        ('"prompt";"seed"\n"a";1\n', "1:1", "separated by commas: no semicolons"),
        ("prompt,id\na,b\nid,prompt\n", "3:1", "the header again"),
        ("prompt,seed\na,1\nprompt,seed\nb,2\n", "3:1", "two files joined"),
        ("prompt,seed\na,1.23457E+09\n", "2:3", "a spreadsheet shortens"),
        ("prompt,guidance_scale\na,1E+01\n", "2:3", "a spreadsheet shortens"),
        ('prompt,seed\na,"1,234"\n', "2:3", '"1,234"'),
        ("prompt,seed\na,1,2\n", "2:5", "3 cells under 2 columns"),
        ('prompt\n"a\n', "2:1", "never closed"),
        ('prompt\n"a" b\n', "2:1", "after the closing quote"),
        ("prompt,\na,b\n", "1:8", "column 2 has no name"),
        ("prompt,prompt\na,b\n", "1:8", "a duplicate"),
        ("prompt,sed\na,1\n", "1:8", "did you mean 'seed'?"),
        ('prompt,seed\n"a, b",x\n', "2:8", "a whole number"),
        ('prompt,seed\n"two\nlines",x\n', "3:8", "a whole number"),
        ("prompt,skip\na,maybe\n", "2:3", "true or false"),
        ("", "1:1", "the first line names the columns"),
        ("prompt\n", "1:1", "no jobs"),
    ],
)
def test_problems_of_csv(studio, text: str, place: str, words: str) -> None:
    (found,) = studio.problems(text, "j.csv")
    assert found.startswith(f"j.csv:{place}: ") and words in found


def test_json_lines_and_standard_input(studio) -> None:
    line = '{"prompt": "caf\\u00e9 \\ud83d\\ude80 {a|b}", "matrix": {"seed": [1, 2]}, "loras": [{"path": "o/n"}]}\n'
    for loaded in (studio.load(line, "j.jsonl"), load_presets("-", options=LoadOptions(stdin=line.encode()))):
        assert [job.seed for job in loaded.jobs] == [1, 2]
        assert loaded.jobs[0].params["prompt"] == "café 🚀 {a|b}"
    assert loaded.presets[0].name == "stdin" and loaded.sources[0][0] == "stdin"


def test_null_in_json_is_a_key_that_is_not_set(studio) -> None:
    jobs = studio.load(
        '{"prompt":"a","seed":7,"size":null}\n{"prompt":"b","seed":null,"loras":[{"path":"o/n","scale":null}]}\n',
        "j.jsonl",
    ).jobs
    assert [(job.params, job.seed) for job in jobs] == [
        ({"prompt": "a"}, 7), ({"prompt": "b", "loras": [{"path": "o/n", "scale": 1}]}, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ('{"prompt": "a", "seed": "x"}', "1:25", "jobs[0].seed"),
        ("{bad}", "1:2", "not JSON"),
        (r'{"prompt": "a \ud83d"}', "1:17", "invalid Unicode character escape"),
        ('{"prompt": NaN}', "1:1", "NaN is not finite"),
        ('{"prompt": "a", "seed": ' + "9" * 60 + "}", "1:25", "not a whole number"),
        ('["a"]', "1:1", "a line is a job as a JSON object"),
        ('{"prompt": "a", "prompt": "b"}', "1:17", 'the key "prompt" is a duplicate'),
        ('{"prompt": "a", "loras": [{"path": "o/n", "path": "o/m"}]}', "1:43", 'loras[0].path: the key "path" is a'),
        ('{"prompt": "a", "x": ' + "[" * 50 + "]" * 50 + "}", "1:61", "nested more than 40"),
        ('{"prompt": "a", "matrix": {"seed": [1], "steps": [2]}}', "1:41", "num_inference_steps"),
    ],
)  # fmt: skip
def test_problems_of_json_lines(studio, line: str, place: str, words: str) -> None:
    found = studio.problems(line + "\n", "j.jsonl")
    assert any(one.startswith(f"j.jsonl:{place}: ") and words in one for one in found), found


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", '{"prompt": "a", "x": NaN}'), ("a.yaml", "jobs: [{prompt: a, x: .inf}]")]
)
def test_a_number_that_is_not_finite_is_never_sent(studio, name: str, text: str) -> None:
    (found,) = studio.problems(text, name, model="other/model", allow_unknown_model=True)
    assert "not finite" in found


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("list.csv", "prompt,seed\na,1\n", "given to `batch` itself"),
        ("list.txt", 'prompt,seed\n"a cup, old",1\n', "give the .csv to `batch` itself"),
        ("list.txt", '{"prompt": "a"}\n', "JSON Lines"),
        ("list.txt", "a\x07\n", "U+0007"),
        ("list.txt", "# none\n", "has no prompts"),
    ],
)
def test_a_prompts_file_that_is_none(studio, name: str, text: str, words: str) -> None:
    studio.write(name, text)
    (found,) = studio.problems(f"jobs:\n- prompts_file: {name}\n")
    assert words in found


def test_the_prompts_file_of_a_literal_job_is_literal(studio) -> None:
    studio.write("more.txt", "# no prompt\na {b|c} <lora:o/n:1>\n")
    line = '{"prompts_file": "more.txt"}\n'
    assert [job.params for job in studio.load(line, "j.jsonl").jobs] == [{"prompt": "a {b|c} <lora:o/n:1>"}]
    assert studio.prompts(line, "j.jsonl", expand=True) == ["a b", "a c"]


# ---- prompts of submit ----------------------------------------------------------------------------

TEXT = """
defaults: {num_inference_steps: 20, size: 512*512}
stacks: {s: [{path: o/s}], t: [{path: o/t}]}
matrix: {stack: [s, t], seed: [1, 2]}
vars: {v: [a, b]}
jobs:
- {id: j, prompt: "x ${v}", num_inference_steps: 21}
"""


def test_submitted_prompts_take_a_presets_defaults_and_a_stack_but_no_matrix(studio) -> None:
    studio.write("p.yaml", TEXT)
    (job,) = studio.submit("a", preset="p.yaml", stack="t", overrides={"loras": [{"path": "o/x", "scale": 2}]}).jobs
    assert [lora["path"] for lora in job.params["loras"]] == ["o/t", "o/x"]
    assert len(studio.submit("${v}", preset="p.yaml", expand=True).jobs) == 2
    with pytest.raises(NotFoundError, match='no stack "u"'):
        studio.submit("a", preset="p.yaml", stack="u")


def test_a_presets_jobs_by_glob_keep_their_ids(studio) -> None:
    studio.write("p.yaml", TEXT)
    (job,) = studio.submit("new", preset="p.yaml", job="j/a/s/2", overrides={"seed": 9, "size": "700*700"}).jobs
    assert (job.id, job.seed, job.params["prompt"], job.params["size"]) == ("j/a/s/2", 9, "new", "700*700")
    (job,) = studio.submit(preset="p.yaml", job="j/a/s/2", stack="t").jobs
    assert (job.id, job.params["loras"][0]["path"]) == ("j/a/s/2", "o/t")
    with pytest.raises(UsageError, match="--seed"):
        studio.submit(preset="p.yaml", job="j/a/s/2", overrides={"seed": -2})


def test_one_repeat_takes_the_seed_that_was_asked_for(studio) -> None:
    studio.write("p.yaml", "jobs:\n- {id: j, prompt: a, repeat: 3}\n")
    assert [job.seed for job in studio.submit(preset="p.yaml", job="j/3", overrides={"seed": 9}).jobs] == [9]
    assert [job.seed for job in studio.submit(preset="p.yaml", job="j/*", overrides={"seed": 9}).jobs] == [9, 10, 11]


# ---- the command line over the preset ---------------------------------------------------------------


def test_named_over_set_over_job_over_defaults(studio) -> None:
    def steps(**options: object) -> int:
        found: int = studio.load(TEXT, **options).jobs[0].params["num_inference_steps"]
        return found

    sets, named = {"num_inference_steps": 22}, {"num_inference_steps": 23}
    assert steps() == 21 and steps(set_overrides=sets) == 22 and steps(set_overrides=sets, overrides=named) == 23


def test_an_override_replaces_the_axis_before_expansion(studio) -> None:
    loaded = studio.load(TEXT, overrides={"seed": 9})
    assert [job.id for job in loaded.jobs] == ["j/a/s", "j/a/t", "j/b/s", "j/b/t"]
    assert {job.seed for job in loaded.jobs} == {9} and loaded.total == 4
    loras = [{"path": "o/x", "scale": 1}]
    loaded = studio.load(TEXT, overrides={"loras": loras})
    assert [job.id for job in loaded.jobs] == ["j/a/1", "j/a/2", "j/b/1", "j/b/2"]
    assert all(job.params["loras"] == loras for job in loaded.jobs)
    loaded = studio.load(TEXT, set_overrides={"stack": "t"})
    assert {job.params["loras"][0]["path"] for job in loaded.jobs} == {"o/t"} and loaded.total == 4
    text = "zip: {prompt: [a, b], seed: [1, 2], num_images: [1, 2]}\njobs: [{id: j}]\n"
    assert studio.ids(text, overrides={"seed": 9}) == ["j/a-1", "j/b-2"]


def test_the_model_from_the_command_line_decides(studio) -> None:
    with pytest.raises(UsageError, match="--steps"):
        studio.load("jobs:\n- prompt: a\n", model="flux-schnell-lora", overrides={"num_inference_steps": 2})
    assert "flux-schnell-lora" in studio.problems(TEXT, model="flux-schnell-lora")[0]
    with pytest.raises(UsageError, match="unknown model"):
        studio.load(TEXT, model="flux-schnel")


def test_only_and_only_ids(studio) -> None:
    assert studio.ids(TEXT, only=["j/a/*", "*/t/2"]) == ["j/a/s/1", "j/a/s/2", "j/a/t/1", "j/a/t/2", "j/b/t/2"]
    assert studio.ids(TEXT, only_ids=[]) == []
    with pytest.raises(NotFoundError) as caught:
        studio.load(TEXT, only=["j"])
    assert "try 'j/*'" in caught.value.hint
    with pytest.raises(NotFoundError, match=r'no job "j/\*"'):
        studio.load(TEXT, only_ids=["j/*"])
    loaded = studio.load("jobs:\n- {id: a, prompt: x, skip: true}\n- {id: b, prompt: x}\n", only=["a"])
    assert loaded.jobs == [] and [job.id for job in loaded.skipped_jobs] == ["a"]

"""The command line over the preset: precedence, and prompts with a preset's defaults."""

from __future__ import annotations

import pytest

from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import LoadOptions, build_prompt_jobs
from flux_lora_cli.errors import NotFoundError, UsageError

TEXT = """
defaults: {num_inference_steps: 20, size: 512*512}
stacks: {s: [{path: o/s}], t: [{path: o/t}]}
matrix: {stack: [s, t], seed: [1, 2]}
vars: {v: [a, b]}
jobs:
- {id: j, prompt: "x ${v}", num_inference_steps: 21}
"""


def test_named_over_set_over_job_over_defaults(studio):
    job = studio.load("p.yaml", TEXT).jobs[0]
    assert job.params["num_inference_steps"] == 21
    job = studio.load("p.yaml", TEXT, set_overrides={"num_inference_steps": 22, "size": "600*600"}).jobs[0]
    assert (job.params["num_inference_steps"], job.params["size"]) == (22, "600*600")
    both = {"set_overrides": {"num_inference_steps": 22}, "overrides": {"num_inference_steps": 23}}
    assert studio.load("p.yaml", TEXT, **both).jobs[0].params["num_inference_steps"] == 23


def test_an_override_replaces_the_axis_before_expansion(studio):
    loaded = studio.load("p.yaml", TEXT, overrides={"seed": 9})
    assert [job.id for job in loaded.jobs] == ["j/a/s", "j/a/t", "j/b/s", "j/b/t"]
    assert {job.seed for job in loaded.jobs} == {9} and loaded.total == 4


def test_an_override_of_loras_replaces_stacks(studio):
    loras = [{"path": "o/x", "scale": 1}]
    loaded = studio.load("p.yaml", TEXT, overrides={"loras": loras})
    assert [job.id for job in loaded.jobs] == ["j/a/1", "j/a/2", "j/b/1", "j/b/2"]
    assert all(job.params["loras"] == loras for job in loaded.jobs)


def test_a_stack_from_the_command_line(studio):
    loaded = studio.load("p.yaml", TEXT, set_overrides={"stack": "t"})
    assert {job.params["loras"][0]["path"] for job in loaded.jobs} == {"o/t"} and loaded.total == 4
    with pytest.raises(NotFoundError, match='no stack "u"'):
        studio.load("p.yaml", TEXT, set_overrides={"stack": "u"})


def test_the_model_from_the_command_line_decides_the_ranges(studio):
    with pytest.raises(UsageError, match="1 to 8"):
        studio.load("p.yaml", "jobs:\n- prompt: a\n", model="flux-schnell-lora", overrides={"num_inference_steps": 9})
    assert "1 to 8" in studio.problems(TEXT, model="flux-schnell-lora")[0]
    with pytest.raises(UsageError, match="did you mean"):
        studio.load("p.yaml", TEXT, model="flux-schnell")


def test_only(studio):
    assert [j.id for j in studio.load("p.yaml", TEXT, only=["j/a/*", "*/t/2"]).jobs] == [
        "j/a/s/1",
        "j/a/s/2",
        "j/a/t/1",
        "j/a/t/2",
        "j/b/t/2",
    ]
    with pytest.raises(NotFoundError) as caught:
        studio.load("p.yaml", TEXT, only=["j"])
    assert 'try "j/*"' in caught.value.hint


# ---- prompts on the command line --------------------------------------------------------------


def jobs(prompts, **more):
    names = ("preset", "stack", "job")
    target = {name: more.pop(name) for name in names if name in more}
    return build_prompt_jobs(prompts, FolderPresetFiles(), LoadOptions(**more), **target)


def test_prompts_are_literal_unless_expand():
    assert [job.params["prompt"] for job in jobs(["a {b|c} __d__", "e"])] == ["a {b|c} __d__", "e"]
    assert len(jobs(["a {b|c}"], expand=True)) == 2
    assert jobs(["a"], overrides={"seed": 3})[0].seed == 3


def test_the_same_prompt_twice_is_two_jobs():
    assert len({job.id for job in jobs(["a", "a"])}) == 2


def test_prompts_take_a_presets_defaults_and_a_stack_but_no_matrix(studio):
    path = str(studio.write("p.yaml", TEXT))
    (job,) = jobs(["a cat"], preset=path, stack="t")
    assert job.params == {
        "num_inference_steps": 20,
        "size": "512*512",
        "prompt": "a cat",
        "loras": [{"path": "o/t", "scale": 1}],
    }
    (job,) = jobs(["a cat"], preset=path, stack="t", overrides={"loras": [{"path": "o/x", "scale": 2}]})
    assert [lora["path"] for lora in job.params["loras"]] == ["o/t", "o/x"]
    assert len(jobs(["${v}"], preset=path, expand=True)) == 2


def test_a_presets_jobs_by_glob(studio):
    path = str(studio.write("p.yaml", TEXT))
    assert [job.id for job in jobs([], preset=path, job="j/*/t/1")] == ["j/a/t/1", "j/b/t/1"]
    with pytest.raises(NotFoundError):
        jobs([], preset=path, job="nope")
    with pytest.raises(NotFoundError):
        jobs(["a"], preset=path, stack="nope")


def test_options_leave_the_id_of_a_job_as_it_is(studio, png):
    path = str(studio.write("p.yaml", TEXT.replace("seed: [1, 2]", "seed: [1, 2], size: [512*512, 600*600]")))
    name = "j/a/s/2/600x600"
    for more in (
        {"overrides": {"seed": 9}},
        {"set_overrides": {"seed": 9}},
        {"overrides": {"seed": 9, "size": "700*700", "num_inference_steps": 3}},
    ):
        (job,) = jobs(["new"], preset=path, job=name, **more)
        assert (job.id, job.seed, job.params["prompt"]) == (name, 9, "new")
    assert (job.params["size"], job.params["num_inference_steps"]) == ("700*700", 3)
    (job,) = jobs([], preset=path, job=name, overrides={"seed": -1, "image": str(studio.write("in.png", png))})
    assert job.seed is None and job.image.bytes == len(png)
    with pytest.raises(UsageError, match="--seed"):
        jobs([], preset=path, job=name, overrides={"seed": -2})


def test_a_stack_or_loras_for_a_job_that_a_stack_multiplies(studio):
    text = TEXT.replace("num_inference_steps: 21}", "loras: [{path: o/own}]}")
    path = str(studio.write("p.yaml", text))

    def paths(**more):
        (job,) = jobs([], preset=path, job="j/a/s/2", **more)
        assert job.id == "j/a/s/2" and job.seed == 2
        return [lora["path"] for lora in job.params["loras"]]

    more = {"overrides": {"loras": [{"path": "o/x", "scale": 1}]}}
    assert paths() == ["o/s", "o/own"]
    assert paths(stack="t") == ["o/t"]
    assert paths(**more) == ["o/x"]
    assert paths(stack="t", **more) == ["o/t", "o/x"]


def test_one_repeat_takes_the_seed_that_was_asked_for(studio):
    path = str(studio.write("p.yaml", "jobs:\n- {id: j, prompt: a, repeat: 3}\n"))
    assert [job.seed for job in jobs([], preset=path, job="j/3", overrides={"seed": 9})] == [9]
    assert [job.seed for job in jobs([], preset=path, job="j/*", overrides={"seed": 9})] == [9, 10, 11]


def test_what_does_not_go_together():
    for bad in ({"stack": "s"}, {"job": "j"}, {}):
        with pytest.raises(UsageError):
            jobs([], **bad)


def test_a_local_image_from_the_command_line(studio, png):
    path = str(studio.write("in.png", png))
    assert jobs(["a"], overrides={"image": path})[0].image.bytes == len(png)
    with pytest.raises(NotFoundError):
        jobs(["a"], overrides={"image": path + "x"})
    with pytest.raises(UsageError):
        jobs(["a"], overrides={"image": str(studio.write("in.txt", "x"))})

"""``submit --preset``: the whole preset is right, or nothing is sent."""

from __future__ import annotations

import pytest

from tests.conftest import Cli

SUBMIT = ("submit", "--sandbox", "a cat", "--preset", "p.yaml")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("jobs:\n- {prompt: x, seed: a}\n", "p.yaml:2:21: jobs[0].seed: "),
        ("jobs:\n- {prompt: '${nobody}'}\n", "p.yaml:2:12: jobs[0].prompt: "),
        ("stacks: {a: [{path: o/n, scale: 9}]}\n", "p.yaml:1:33: stacks.a[0].scale: "),
    ],
)
def test_a_preset_that_is_wrong_anywhere_is_refused(cli: Cli, studio, text: str, place: str) -> None:
    studio.write("p.yaml", text)
    done = cli(*SUBMIT)
    assert (done.code, done.out) == (10, "")
    assert done.err.startswith(place)
    assert done.err.count(place) == 1


def test_its_own_jobs_are_neither_counted_nor_measured_by_another_model(cli: Cli, studio) -> None:
    seeds = ", ".join(map(str, range(1001)))
    studio.write("p.yaml", f"matrix: {{seed: [{seeds}]}}\njobs: [{{prompt: x, num_inference_steps: 28}}]\n")
    done = cli(*SUBMIT, "--model", "flux-schnell-lora", "--dry-run")
    assert done.code == 0, done.err
    assert done.out.startswith("1 task to submit")

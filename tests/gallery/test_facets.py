"""Matrices are recognised, and their axes named as the preset named them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from make_run import NASA, RETRO, STACKS, failed, job, matrix, write

from flux_lora_cli.gallery.arrange import choose_axes
from flux_lora_cli.gallery.facets import Facet, facets_of
from flux_lora_cli.gallery.run import read_run


def facets(folder: Path, jobs: list[dict[str, Any]]) -> list[Facet]:
    run = read_run(write(folder, jobs))
    return facets_of([(run, entry, picture) for entry, picture in run.pictures()])


def axes(found: list[Facet]) -> tuple[str | None, ...]:
    chosen = choose_axes(found)
    return tuple(None if i is None else found[i].key for i in (chosen.columns, chosen.rows, chosen.pages))


def values(found: list[Facet], key: str) -> tuple[str, ...]:
    return next(facet.values for facet in found if facet.key == key)


def test_stacks_are_named_by_the_ids(tmp_path: Path) -> None:
    run = read_run(matrix(tmp_path, side=8))
    found = facets_of([(run, entry, picture) for entry, picture in run.pictures()])
    assert values(found, "stack") == ("plain", "nasa", "tarot", "both")
    assert values(found, "job") == ("dawn", "rings", "reef")
    assert axes(found) == ("stack", "job", "seed")


def test_scales_of_one_lora_are_an_axis_in_numeric_order(tmp_path: Path) -> None:
    jobs = [
        job(f"j{n}", loras=[{"path": NASA, "scale": scale}], seed=seed)
        for n, (scale, seed) in enumerate(itertools.product([1.5, 0.5, 10, 1.0], [3, 20, 100]))
    ]
    found = facets(tmp_path, jobs)
    assert values(found, "scale") == ("0.5", "1", "1.5", "10")
    assert values(found, "seed") == ("3", "20", "100")
    assert axes(found) == ("scale", "seed", None)
    assert "stack" not in [facet.key for facet in found]


def test_lora_and_scale_are_two_axes(tmp_path: Path) -> None:
    product = itertools.product([NASA, RETRO], [0.5, 1])
    found = facets(tmp_path, [job(f"j{n}", loras=[{"path": p, "scale": s}]) for n, (p, s) in enumerate(product)])
    assert set(axes(found)[:2]) == {"scale", "lora"}


def test_variables_of_the_prompt_are_read_off_the_ids(tmp_path: Path) -> None:
    product = itertools.product(["moon", "mars"], ["ink", "oil", "clay"])
    found = facets(tmp_path, [job(f"poster/{a}/{b}", prompt=f"{a} in {b}", seed=5) for a, b in product])
    assert values(found, "variant1") == ("moon", "mars")
    assert values(found, "variant2") == ("ink", "oil", "clay")
    assert [facet.label for facet in found[:2]] == ["Variant 1", "Variant 2"]
    assert set(axes(found)[:2]) == {"variant1", "variant2"}


def test_repeats_with_drawn_seeds_are_numbered(tmp_path: Path) -> None:
    jobs = [job(f"{name}/{n}", prompt=name, seed=1000 * n + 7 * ord(name)) for name in ("a", "b") for n in range(1, 5)]
    found = facets(tmp_path, jobs)
    assert values(found, "repeat1") == ("1", "2", "3", "4")
    assert set(axes(found)[:2]) == {"job", "repeat1"}


def test_prompts_with_seeds_of_their_own_are_no_matrix(tmp_path: Path) -> None:
    found = facets(tmp_path, [job(f"j{n}", prompt=f"p{n}", seed=n * 1009) for n in range(30)])
    assert axes(found)[1:] == (None, None)


def test_a_failed_job_of_four_images_is_missing_in_each_column(tmp_path: Path) -> None:
    whole = job("a/1", seed=1, num_images=2)
    whole["outputs"] = [{"index": 0}, {"index": 1}]
    found = facets(tmp_path, [whole, failed("a/2", "1200: no", seed=2, num_images=2)])
    [output] = [facet for facet in found if facet.key == "output"]
    assert output.codes == (0, 1, -1)


def test_two_loras_of_one_stack(tmp_path: Path) -> None:
    found = facets(tmp_path, [job("a", loras=STACKS["both"]), job("b", loras=[])])
    assert values(found, "stack") == ("nasa_concept_art-flux-lora 0.6 + flux-tarot-v1 0.5", "no LoRA")

"""What each model takes: values, LoRA paths, whole requests, names of models."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from flux_lora_cli.errors import UsageError
from flux_lora_cli.service.models import MAX_DRAWN_SEED, Model, Models, UnknownModel, check_request, value_of_text
from flux_lora_cli.service.values import Parameter, check_value, lora_path_problem, parse_lora

MODELS = Models.builtin()
V2 = MODELS.find("flux-dev-lora")
V3 = MODELS.find("flux-dev-lora", "v3")

# ---- values -------------------------------------------------------------------------------------

PAGE = {"path": "https://civitai.com/models/1", "scale": 1}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("num_inference_steps", 28.0, 28), ("guidance_scale", 5.0, 5), ("guidance_scale", 3.5, 3.5)),
        *(("image", same, same) for same in ("https://host/a.png", "data:image/png;base64,AAAA", "photos/cat.png")),
        *(("image", r"C:\photos\cat.png", r"C:\photos\cat.png"), ("prompt", "", ""), ("size", "512*1536", "512*1536")),
        *(("enable_safety_checker", False, False), ("seed", 9_999_999_999, 9_999_999_999)),
        *(("loras", [], []), ("loras", [PAGE], [PAGE]), ("loras", [{"path": "a/b"}], [{"path": "a/b", "scale": 1}])),
        ("loras", [{"path": "a/b", "scale": 2.0}], [{"path": "a/b", "scale": 2}]),
    ],
)
def test_values_that_are_allowed(name: str, value: Any, expected: Any) -> None:
    checked, problem = check_value(V2.parameters[name], value)
    assert problem is None
    assert (checked, type(checked)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "words", "values"),
    [
        ("size", "did you mean '768*768'?", [768, "768"]),
        ("size", "did you mean '1024*768'?", ["1024×768", "1024 * 768", "1024x768", [1024, 768]]),
        ("size", "allowed: WIDTH*HEIGHT, each from 512 to 1536", [64]),
        ("size", "out of range; allowed: WIDTH*HEIGHT, each from 512 to 1536", ["2048*2048"]),
        ("size", "not a size", [True]),
        ("prompt", "put text in quotes", [123, True]),
        ("prompt", "null is not text", [None]),
        ("num_inference_steps", "not a whole number", [28.5]),
        ("num_inference_steps", "out of range; allowed: a whole number from 1 to 50", [51]),
        ("num_inference_steps", "not a number", [True, "28", float("nan")]),
        ("guidance_scale", "out of range", [10**400]),
        ("enable_safety_checker", "allowed: true or false", ["yes"]),
        ("image", "not an image that the service can fetch", ["ftp://h/a.png", "data:text/html,x"]),
        ("loras", "not a list", ["a/b"]),
        ("loras", 'write {path: "a/b", scale: 0.5}', [["a/b:0.5"]]),
        ("loras", "not a LoRA; allowed: {path: ", [[{"path": "a/b", "weight": 1}], [{"scale": 1}], [7]]),
        ("loras", "a number from 0 to 4", [[{"path": "a/b", "scale": 5}]]),
        ("loras", "not a number", [[{"path": "a/b", "scale": scale}] for scale in (float("inf"), "1")]),
        ("loras", "at most 5", [[{"path": "a/b"}] * 6]),
    ],
)
def test_values_that_are_refused_say_what_is_allowed(name: str, words: str, values: list[Any]) -> None:
    for value in values:
        problem = check_value(V2.parameters[name], value)[1]
        assert problem is not None and words in problem.message
        assert len(problem.message) < 300


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (V3.parameters["mask_image"], "https://host/m.png", None),
        (V3.parameters["mask_image"], "m.png", "not an image"),
        (V3.parameters["output_format"], "jpg", "did you mean 'jpeg'?"),
        (Parameter("images", "images", max_items=2), ["a.png", "https://h/b.png"], None),
        (Parameter("images", "images", max_items=2), ["a"] * 3, "at most 2"),
        (Parameter("images", "images"), ["a.png", "ftp://x/"], "images[1]: "),
        (Parameter("odd", "any"), object(), None),
        (Parameter("n", "integer", choices=(1, 2)), 3, "allowed: one of 1, 2"),
    ],
)
def test_other_types(parameter: Parameter, value: Any, words: str | None) -> None:
    problem = check_value(parameter, value)[1]
    assert problem is None if words is None else words in str(problem)


def test_a_token_in_a_value_is_not_shown() -> None:
    problem = check_value(V2.parameters["image"], "ftp://user:pw123@host/x?token=abc")[1]
    assert problem is not None and "pw123" not in problem.message and "abc" not in problem.message


# ---- LoRAs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        *(("owner/name", "owner/name", 1), ("owner/name:0.5", "owner/name", 0.5), ("owner/name:2.0", "owner/name", 2)),
        *((same, same, 1) for same in ("https://host/a.safetensors", "https://host:8080/a", "owner/name:v2", "a/b:")),
        *(("https://host:8080/a:.75", "https://host:8080/a", 0.75), ("a/b:-1", "a/b", -1)),
    ],
)
def test_a_scale_is_split_off_at_the_last_colon_if_it_is_a_number(text: str, path: str, scale: float) -> None:
    lora = parse_lora(text)
    assert lora == {"path": path, "scale": scale}
    assert type(lora["scale"]) is type(scale)


DOWNLOAD, HUGGING_FACE = "https://civitai.com/api/download/models", "https://huggingface.co/o/ink"


@pytest.mark.parametrize(
    ("form", "paths"),
    [
        ("local file", ["loras/ink.safetensors", "./ink.safetensors", "~/ink.safetensors", "/data/ink.safetensors"]),
        ("local file", [r"C:\loras\ink.safetensors", r"loras\ink", "ink.pt"]),
        ("allowed: owner/name or owner/name/FILE", ["ink", "", "owner/name:0.5", "owner /name", 7]),
        ("write o/ink", ["huggingface.co/o/ink", HUGGING_FACE, f"{HUGGING_FACE}/tree/main"]),
        ("write o/ink", [HUGGING_FACE + page for page in ("?library=diffusers", "#files", "/discussions/1")]),
        (f"{HUGGING_FACE}/resolve/main/a/i.safetensors", [f"{HUGGING_FACE}/blob/main/a/i.safetensors"]),
        (f"{DOWNLOAD}/VERSION_ID", ["civitai.com/models/12345", "https://civitai.com/models/1/ink"]),
        (f"{DOWNLOAD}/22", ["https://civitai.com/models/1/ink?modelVersionId=22"]),
        (f"{DOWNLOAD}/678", ["civitai:12345@678", "urn:air:flux1:lora:civitai:12345@678"]),
        ("write https://host.example.com/x.safetensors", ["host.example.com/x.safetensors"]),
    ],
)
def test_paths_that_never_load_are_told_with_the_form_that_does(form: str, paths: list[Any]) -> None:
    for path in paths:
        problem = lora_path_problem(path)
        assert problem is not None and form in problem


def test_paths_that_may_load() -> None:
    for path in (
        *("owner/name", "owner/name/ink.safetensors", "https://me:pw@host.example/ink.safetensors", "http://host/ink"),
        *(f"{HUGGING_FACE}/resolve/main/i.safetensors", f"{DOWNLOAD}/1?type=Model&token=x"),
        *(f"https://huggingface.co/{page}/o/ink" for page in ("datasets", "spaces", "papers")),
    ):
        assert lora_path_problem(path) is None


# ---- the text of an option ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        *(("num_images", " 2 ", 2), ("guidance_scale", "3", 3), ("prompt", "12", "12"), ("prompt", " a ", " a ")),
        *(("size", " 512*512 ", "512*512"), ("enable_safety_checker", "no", False), ("loras", "", [])),
        ("loras", "a/b:0.5; c/d", [{"path": "a/b", "scale": 0.5}, {"path": "c/d", "scale": 1}]),
        ("loras", '[{"path": "a/b", "scale": 2}]', [{"path": "a/b", "scale": 2}]),
    ],
)
def test_text_of_options_and_cells(name: str, text: str, expected: Any) -> None:
    assert value_of_text(name, text) == (expected, None)


def test_text_that_cannot_be_meant() -> None:
    for name, text in (("num_images", "two"), ("num_images", "2.5"), ("num_images", "9" * 40), ("loras", "[1")):
        assert value_of_text(name, text)[1] is not None


def test_text_for_a_parameter_that_is_not_known_is_told_by_its_looks() -> None:
    texts = {"fast": "true", "cfg": "1.5", "mode": "x", "opts": '{"a": 1}', "prompt": "7"}
    values = {name: value_of_text(name, text)[0] for name, text in texts.items()}
    assert values == {"fast": True, "cfg": 1.5, "mode": "x", "opts": {"a": 1}, "prompt": "7"}


# ---- tables -------------------------------------------------------------------------------------

STEPS, IMAGES = (28, 1, 50), (1, 1, 4)
#: As SERVICE.md has them: LoRAs, steps, guidance, num_images, mask_image, strength (default, least, most), USD.
FACTS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("flux-dev-lora", "v2"): (5, STEPS, (5, 0, 10), IMAGES, False, (0.6, 0, 1), "0.015"),
    ("flux-dev-lora", "v3"): (4, STEPS, (3.5, 0, 20), IMAGES, True, (0.8, 0, 1), "0.015"),
    ("flux-dev-lora-ultra-fast", "v3"): (3, STEPS, (3.5, 0, 20), IMAGES, True, (0.8, 0.01, 1), "0.006"),
    ("flux-schnell-lora", "v3"): (3, None, None, IMAGES, True, (0.8, 0, 1), "0.005"),
    ("flux-krea-dev-lora", "v3"): (3, None, (3.5, 0, 20), None, False, (0.8, 0, 1), "0.02"),
    ("flux-kontext-dev-lora", "v3"): (3, STEPS, (2.5, 0, 20), IMAGES, False, None, None),
    ("flux-kontext-dev-lora-ultra-fast", "v3"): (3, STEPS, (2.5, 0, 20), IMAGES, False, None, None),
}
OF_EACH = {"prompt", "image", "size", "seed", "loras"}
OF_V3 = {"output_format", "enable_base64_output", "enable_sync_mode"}
EACH_MODEL = pytest.mark.parametrize("model", list(MODELS), ids=lambda model: f"{model.short}-{model.version}")


def numbers(model: Model, name: str) -> tuple[Any, Any, Any] | None:
    row = model.parameters.get(name)
    return row and (row.default, row.minimum, row.maximum)


@EACH_MODEL
def test_each_table_says_what_its_page_says(model: Model) -> None:
    loras, steps, guidance, images, mask, strength, price = FACTS[model.short, model.version]
    names = ("num_inference_steps", "guidance_scale", "num_images", "strength")
    assert model.max_loras == loras
    assert [numbers(model, name) for name in names] == [steps, guidance, images, strength]
    assert model.price == (price and Decimal(price))
    own = {name for name in names if numbers(model, name)} | ({"mask_image"} if mask else set())
    assert set(model.parameters) == OF_EACH | own | (OF_V3 if model.version == "v3" else {"enable_safety_checker"})
    v3 = model.version == "v3"
    assert numbers(model, "seed") == (-1, -1, MAX_DRAWN_SEED if v3 else 9_999_999_999)
    assert numbers(model, "size") == (None if "kontext" in model.id else "1024*1024", 256 if v3 else 512, 1536)
    required = {"prompt"} | ({"image"} if "kontext" in model.id else set()) if v3 else set()
    assert {name for name, row in model.parameters.items() if row.required} == required


def test_every_model_has_its_facts_and_a_source() -> None:
    assert {(model.short, model.version) for model in MODELS} == FACTS.keys()
    assert all(model.source for model in MODELS)


@EACH_MODEL
def test_every_default_is_allowed_by_its_own_table(model: Model) -> None:
    rows = [row for row in model.parameters.values() if row.default is not None]
    assert [check_value(row, row.default)[1] for row in rows] == [None] * len(rows)


@EACH_MODEL
def test_a_key_that_a_model_does_not_declare_is_refused_and_never_sent(model: Model) -> None:
    for key in {name for each in MODELS for name in each.parameters} | {"steps", "webhook"}:
        params = {"prompt": "x", "image": "a.png", key: 1}
        refused = any(p.key == key and "not a parameter of" in p.message for p in check_request(model, params))
        assert refused is (key not in model.parameters)
        assert (key in model.request(params, 1)) is (key in model.parameters)


# ---- requests -----------------------------------------------------------------------------------


def test_every_problem_of_a_request_comes_in_one_go() -> None:
    params = {"size": "1x1", "steps": 4, "num_images": 9, "loras": [{"path": "a/b"}] * 5}
    keys = [problem.key for problem in check_request(V3, params)]
    assert keys == ["size", "num_images", "loras", "steps", "prompt"]
    assert check_request(V2, {}) == []
    assert check_request(V3, {"prompt": ""}) != []
    kontext = MODELS.find("flux-kontext-dev-lora")
    assert [problem.key for problem in check_request(kontext, {"prompt": "x"})] == ["image"]
    assert "did you mean 'num_inference_steps'?" in check_request(V2, {"steps": 4})[0].message


def test_the_request_has_every_documented_default_and_numbers_by_value() -> None:
    defaults = {"image": "", "size": "1024*1024", "num_inference_steps": 28, "num_images": 1, "loras": []}
    written = {"prompt": "x", "guidance_scale": 4, "seed": 7, "enable_safety_checker": True}
    assert V2.request({"prompt": "x", "guidance_scale": 4.0, "seed": -1}, 7) == defaults | written
    assert V2.request({"image": "https://h/a"}, 7)["strength"] == 0.6
    assert "strength" not in V2.request({"strength": 0.5}, 7)
    body = V3.request({"prompt": "x"}, 7)
    assert not {"enable_safety_checker", "image", "output_format"} & body.keys()


def test_the_documented_price_is_per_image() -> None:
    assert V2.price_of({"num_images": 3}) == Decimal("0.045")
    assert V2.price_of({}) == Decimal("0.015")
    assert MODELS.find("flux-kontext-dev-lora").price_of({}) is None


# ---- names --------------------------------------------------------------------------------------


def test_each_model_runs_on_its_own_version() -> None:
    for name in ("flux-dev-lora", "wavespeed-ai/flux-dev-lora"):
        assert MODELS.find(name).version == "v2"
    for name in ("flux-schnell-lora", "wavespeed-ai/flux-kontext-dev-lora-ultra-fast"):
        assert MODELS.find(name).version == "v3"
    assert (MODELS.find("flux-dev-lora", "v3").version, V2.checked, V3.checked) == ("v3", True, True)


def test_a_version_without_a_table_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="API v2"):
        MODELS.find("flux-schnell-lora", "v2")
    blind = MODELS.find("flux-schnell-lora", "v2", allow_unknown=True)
    assert (blind.id, blind.version, blind.checked) == ("wavespeed-ai/flux-schnell-lora", "v2", False)
    assert MODELS.find("flux-schnell-lora", allow_unknown=True).checked


@pytest.mark.parametrize(
    ("meant", "names"),
    [
        ("flux-dev-lora", "flux-dev-lorra flux-dve-lora FLUX_DEV_LORA fluxdevlora"),
        ("wavespeed-ai/flux-dev-lora", "wavespeedai/flux-dev-lora"),
        ("flux-kontext-dev-lora", "flux-kontex-dev-lora"),
        ("", "flux-kontext-lora flux-2-dev-lora flux-dev flux-pro-lora flux-dev2-lora other/flux-dev-lora "),
    ],
)
def test_a_hint_corrects_slips_and_never_proposes_another_model(meant: str, names: str) -> None:
    for name in names.split(" "):
        with pytest.raises(UnknownModel) as caught:
            MODELS.find(name)
        assert ("did you mean" in caught.value.message) is bool(meant), name
        assert meant in caught.value.message
        assert all(model.short not in caught.value.hint for model in MODELS)


def test_an_unknown_model_is_sent_as_written() -> None:
    model = MODELS.find("acme/new-model", allow_unknown=True)
    assert (model.version, model.checked, model.price) == ("v3", False, None)
    assert check_request(model, {"anything": 1, "size": "9*9", "loras": [{"path": "a/b"}] * 9}) == []
    assert model.request({"anything": 1.0, "seed": -1}, 7) == {"seed": 7, "anything": 1}
    for bad in ("../x", "a b/c", "a?b"):
        with pytest.raises(UnknownModel):
            MODELS.find(bad, allow_unknown=True)


def test_later_tables_replace_earlier_ones_version_by_version() -> None:
    newer = Model("wavespeed-ai/flux-dev-lora", "v3", {"prompt": Parameter("prompt", "string")}, source="newer")
    others = [Model(name, "v3", {}) for name in ("acme/flux-dev-lora", "acme/twin", "b/twin")]
    models = Models([*MODELS, newer, *others])
    assert models.find("flux-dev-lora", "v3").source == "newer"
    assert models.find("flux-dev-lora").max_loras == 5
    assert models.find("flux-dev-lora").id == "wavespeed-ai/flux-dev-lora"
    with pytest.raises(UnknownModel):
        models.find("twin")

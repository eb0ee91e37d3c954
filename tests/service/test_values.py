"""What each model takes: values, LoRA paths, whole requests, names of models."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from flux_lora_cli.errors import UsageError
from flux_lora_cli.service.models import (
    MAX_DRAWN_SEED,
    Model,
    Models,
    Parameter,
    UnknownModel,
    check_request,
    check_value,
    lora_path_problem,
    parse_lora,
    value_of_text,
)

MODELS = Models.builtin()
V2 = MODELS.find("flux-dev-lora")
V3 = MODELS.find("flux-dev-lora", "v3")


# ---- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_inference_steps", 28.0, 28),
        ("guidance_scale", 5.0, 5),
        ("guidance_scale", 3.5, 3.5),
        ("size", "512*1536", "512*1536"),
        ("prompt", "", ""),
        ("image", "https://host/a.png", "https://host/a.png"),
        ("image", "data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("image", "photos/cat.png", "photos/cat.png"),
        ("image", r"C:\photos\cat.png", r"C:\photos\cat.png"),
        ("enable_safety_checker", False, False),
        ("loras", [{"path": "a/b"}], [{"path": "a/b", "scale": 1}]),
        ("loras", [{"path": "a/b", "scale": 2.0}], [{"path": "a/b", "scale": 2}]),
        (
            "loras",
            [{"path": "https://civitai.com/models/1", "scale": 1}],
            [{"path": "https://civitai.com/models/1", "scale": 1}],
        ),
        ("loras", [], []),
        ("seed", 9_999_999_999, 9_999_999_999),
    ],
)
def test_values_that_are_allowed(name: str, value: Any, expected: Any) -> None:
    checked, problem = check_value(V2.parameters[name], value)
    assert problem is None
    assert (checked, type(checked)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("size", 768, "did you mean '768*768'?"),
        ("size", "768", "did you mean '768*768'?"),
        ("size", "512x512", "did you mean '512*512'?"),
        ("size", "1024×768", "did you mean '1024*768'?"),
        ("size", "1024 * 768", "did you mean '1024*768'?"),
        ("size", [1024, 768], "did you mean '1024*768'?"),
        ("size", 64, "allowed: WIDTH*HEIGHT, each from 512 to 1536"),
        ("size", "2048*2048", "out of range; allowed: WIDTH*HEIGHT, each from 512 to 1536"),
        ("size", True, "not a size"),
        ("prompt", 123, "put text in quotes"),
        ("prompt", True, "put text in quotes"),
        ("prompt", None, "null is not text"),
        ("num_inference_steps", 28.5, "not a whole number"),
        ("num_inference_steps", 51, "out of range; allowed: a whole number from 1 to 50"),
        ("num_inference_steps", True, "not a number"),
        ("num_inference_steps", "28", "not a number"),
        ("guidance_scale", float("nan"), "not a number"),
        ("guidance_scale", 10**400, "out of range"),
        ("enable_safety_checker", "yes", "allowed: true or false"),
        ("image", "ftp://host/a.png", "not an image that the service can fetch"),
        ("image", "data:text/html,x", "not an image that the service"),
        ("loras", "a/b", "not a list"),
        ("loras", ["a/b:0.5"], 'write {path: "a/b", scale: 0.5}'),
        ("loras", [{"path": "a/b", "weight": 1}], "did you mean 'scale'?"),
        ("loras", [{"scale": 1}], "without a 'path'"),
        ("loras", [{"path": "a/b", "scale": 5}], "a number from 0 to 4"),
        ("loras", [{"path": "a/b", "scale": float("inf")}], "not a number"),
        ("loras", [{"path": "a/b", "scale": "1"}], "not a number"),
        ("loras", [{"path": "a/b"}] * 6, "at most 5"),
    ],
)
def test_values_that_are_refused_say_what_is_allowed(name: str, value: Any, words: str) -> None:
    problem = check_value(V2.parameters[name], value)[1]
    assert problem is not None
    assert words in problem.message
    assert len(problem.message) < 300


def test_other_types() -> None:
    mask = V3.parameters["mask_image"]
    assert check_value(mask, "https://host/m.png")[1] is None
    assert "not an image" in str(check_value(mask, "m.png")[1])
    form = V3.parameters["output_format"]
    assert "did you mean 'jpeg'?" in str(check_value(form, "jpg")[1])
    images = Parameter("images", "images", max_items=2)
    assert check_value(images, ["a.png", "https://h/b.png"])[1] is None
    assert "at most 2" in str(check_value(images, ["a"] * 3)[1])
    assert str(check_value(images, ["a.png", "ftp://x/"])[1]).startswith("images[1]: ")
    assert check_value(Parameter("odd", "any"), object())[1] is None


def test_a_token_in_a_value_is_not_shown() -> None:
    problem = check_value(V2.parameters["image"], "ftp://user:pw123@host/x?token=abc")[1]
    assert problem is not None and "pw123" not in problem.message and "abc" not in problem.message


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("owner/name", "owner/name", 1),
        ("owner/name:0.5", "owner/name", 0.5),
        ("owner/name:2.0", "owner/name", 2),
        ("https://host/a.safetensors", "https://host/a.safetensors", 1),
        ("https://host:8080/a.safetensors:.75", "https://host:8080/a.safetensors", 0.75),
        ("https://host:8080/a.safetensors", "https://host:8080/a.safetensors", 1),
        ("owner/name:v2", "owner/name:v2", 1),
        ("owner/name:", "owner/name:", 1),
        ("a/b:-1", "a/b", -1),
    ],
)
def test_a_scale_is_split_off_at_the_last_colon_if_it_is_a_number(text: str, path: str, scale: float) -> None:
    lora = parse_lora(text)
    assert lora == {"path": path, "scale": scale}
    assert type(lora["scale"]) is type(scale)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("loras/ink.safetensors", "local file"),
        ("./ink.safetensors", "local file"),
        ("~/ink.safetensors", "local file"),
        ("/data/ink.safetensors", "local file"),
        (r"C:\loras\ink.safetensors", "local file"),
        (r"loras\ink.safetensors", "local file"),
        ("ink.safetensors", "local file"),
        ("ink", "owner/name"),
        ("", "owner/name"),
        ("owner/name:0.5", "owner/name/FILE"),
        ("owner /name", "owner/name"),
        ("huggingface.co/owner/ink", "write owner/ink"),
        ("civitai.com/models/12345", "https://civitai.com/api/download/models/VERSION_ID"),
        ("host.example.com/x.safetensors", "write https://host.example.com/x.safetensors"),
        ("civitai:12345@678", "https://civitai.com/api/download/models/678"),
        ("urn:air:flux1:lora:civitai:12345@678", "https://civitai.com/api/download/models/678"),
        ("https://civitai.com/models/1/ink?modelVersionId=22", "https://civitai.com/api/download/models/22"),
        ("https://civitai.com/models/1/ink", "https://civitai.com/api/download/models/VERSION_ID"),
        ("https://huggingface.co/o/ink", "write o/ink"),
        ("https://huggingface.co/o/ink/tree/main", "write o/ink"),
        (
            "https://huggingface.co/o/ink/blob/main/a/i.safetensors",
            "https://huggingface.co/o/ink/resolve/main/a/i.safetensors",
        ),
        (7, "owner/name"),
    ],
)
def test_paths_that_never_load_are_told_with_the_form_that_does(path: Any, form: str) -> None:
    problem = lora_path_problem(path)
    assert problem is not None and form in problem


@pytest.mark.parametrize(
    "path",
    [
        "owner/name",
        "owner/name/ink.safetensors",
        "https://huggingface.co/o/ink/resolve/main/i.safetensors",
        "https://civitai.com/api/download/models/1?type=Model&token=x",
        "https://me:pw@host.example/ink.safetensors",
        "http://host/ink",
    ],
)
def test_paths_that_may_load(path: str) -> None:
    assert lora_path_problem(path) is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("num_images", " 2 ", 2),
        ("guidance_scale", "3", 3),
        ("prompt", "12", "12"),
        ("prompt", " a ", " a "),
        ("size", " 512*512 ", "512*512"),
        ("enable_safety_checker", "no", False),
        ("loras", "a/b:0.5; c/d", [{"path": "a/b", "scale": 0.5}, {"path": "c/d", "scale": 1}]),
        ("loras", '[{"path": "a/b", "scale": 2}]', [{"path": "a/b", "scale": 2}]),
        ("loras", "", []),
    ],
)
def test_text_of_options_and_cells(name: str, text: str, expected: Any) -> None:
    assert value_of_text(V2, name, text) == (expected, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("num_images", "two"),
        ("num_images", "2.5"),
        ("num_images", "9" * 40),
        ("loras", "[1"),
        ("loras", "x"),
        ("steps", "4"),
    ],
)
def test_text_that_cannot_be_meant(name: str, text: str) -> None:
    assert value_of_text(V2, name, text)[1] is not None


def test_text_for_an_unchecked_model_is_told_by_its_looks() -> None:
    model = MODELS.find("other/model", allow_unknown=True)
    texts = {"fast": "true", "cfg": "1.5", "mode": "x", "opts": '{"a": 1}', "prompt": "7"}
    values = {name: value_of_text(model, name, text)[0] for name, text in texts.items()}
    assert values == {"fast": True, "cfg": 1.5, "mode": "x", "opts": {"a": 1}, "prompt": "7"}


# ---- tables -------------------------------------------------------------------------------------

DECLARED = {
    ("flux-dev-lora", "v2"): (
        5,
        {"num_inference_steps", "guidance_scale", "num_images", "strength", "enable_safety_checker"},
    ),
    ("flux-dev-lora", "v3"): (4, {"num_inference_steps", "guidance_scale", "num_images", "strength", "mask_image"}),
    ("flux-dev-lora-ultra-fast", "v3"): (
        3,
        {"num_inference_steps", "guidance_scale", "num_images", "strength", "mask_image"},
    ),
    ("flux-schnell-lora", "v3"): (3, {"num_images", "strength", "mask_image"}),
    ("flux-krea-dev-lora", "v3"): (3, {"guidance_scale", "strength"}),
    ("flux-kontext-dev-lora", "v3"): (3, {"num_inference_steps", "guidance_scale", "num_images"}),
    ("flux-kontext-dev-lora-ultra-fast", "v3"): (3, {"num_inference_steps", "guidance_scale", "num_images"}),
}
OFTEN = {"prompt", "image", "size", "seed", "loras"}
OF_V3 = {"output_format", "enable_base64_output", "enable_sync_mode"}


def test_each_table_declares_what_its_page_lists_and_nothing_else() -> None:
    tables = {(model.short, model.version): (model.max_loras, set(model.parameters)) for model in MODELS}
    assert tables == {
        key: (loras, own | OFTEN | (OF_V3 if key[1] == "v3" else set())) for key, (loras, own) in DECLARED.items()
    }
    assert all(model.source for model in MODELS)


@pytest.mark.parametrize("model", list(MODELS), ids=lambda model: f"{model.short}-{model.version}")
def test_every_default_is_allowed_by_its_own_table(model: Model) -> None:
    for parameter in model.parameters.values():
        if parameter.default is not None:
            assert check_value(parameter, parameter.default)[1] is None


def test_the_numbers_of_the_tables() -> None:
    def row(name: str, key: str, version: Any = None) -> tuple[Any, Any, Any]:
        p = MODELS.find(name, version).parameters[key]
        return p.default, p.minimum, p.maximum

    assert row("flux-dev-lora", "strength") == (0.6, 0, 1)
    assert row("flux-dev-lora", "guidance_scale") == (5.0, 0, 10)
    assert row("flux-dev-lora", "guidance_scale", "v3") == (3.5, 0, 20)
    assert row("flux-dev-lora", "size", "v3") == ("1024*1024", 256, 1536)
    assert row("flux-dev-lora", "seed", "v3") == (-1, -1, MAX_DRAWN_SEED)
    assert row("flux-dev-lora-ultra-fast", "strength") == (0.8, 0.01, 1)
    assert row("flux-kontext-dev-lora", "guidance_scale") == (2.5, 0, 20)
    prices = {model.short: model.price for model in MODELS}
    assert prices["flux-dev-lora"] == Decimal("0.015")
    assert prices["flux-kontext-dev-lora"] is None


@pytest.mark.parametrize("model", list(MODELS), ids=lambda model: f"{model.short}-{model.version}")
@pytest.mark.parametrize("key", [*sorted({key for model in MODELS for key in model.parameters}), "steps", "webhook"])
def test_a_key_that_a_model_does_not_declare_is_refused_and_never_sent(model: Model, key: str) -> None:
    problems = [each for each in check_request(model, {"prompt": "x", "image": "a.png", key: 1}) if each.key == key]
    declared = key in model.parameters
    assert any("not a parameter of" in each.message for each in problems) is not declared
    assert (key in model.request({"prompt": "x", "image": "a.png", key: "x"}, 1)) is declared


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
    assert V2.request({"prompt": "x", "guidance_scale": 4.0, "seed": -1}, 7) == {
        "prompt": "x",
        "image": "",
        "size": "1024*1024",
        "num_inference_steps": 28,
        "guidance_scale": 4,
        "num_images": 1,
        "seed": 7,
        "loras": [],
        "enable_safety_checker": True,
    }
    assert V2.request({"image": "https://h/a"}, 7)["strength"] == 0.6
    assert "strength" not in V2.request({"strength": 0.5}, 7)
    body = V3.request({"prompt": "x"}, 7)
    assert "enable_safety_checker" not in body and "image" not in body and "output_format" not in body


def test_the_documented_price_is_per_image() -> None:
    assert V2.price_of({"num_images": 3}) == Decimal("0.045")
    assert V2.price_of({}) == Decimal("0.015")
    assert MODELS.find("flux-kontext-dev-lora").price_of({}) is None


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("flux-dev-lora", None, "v2"),
        ("wavespeed-ai/flux-dev-lora", None, "v2"),
        ("flux-dev-lora", "v3", "v3"),
        ("flux-schnell-lora", None, "v3"),
        ("wavespeed-ai/flux-kontext-dev-lora-ultra-fast", None, "v3"),
    ],
)
def test_each_model_runs_on_its_own_version(name: str, version: Any, expected: str) -> None:
    found = MODELS.find(name, version)
    assert (found.version, found.checked) == (expected, True)


def test_a_version_without_a_table_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="API v2"):
        MODELS.find("flux-schnell-lora", "v2")
    blind = MODELS.find("flux-schnell-lora", "v2", allow_unknown=True)
    assert (blind.id, blind.version, blind.checked) == ("wavespeed-ai/flux-schnell-lora", "v2", False)
    assert MODELS.find("flux-schnell-lora", allow_unknown=True).checked


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("flux-dev-lorra", "flux-dev-lora"),
        ("flux-dve-lora", "flux-dev-lora"),
        ("FLUX_DEV_LORA", "flux-dev-lora"),
        ("fluxdevlora", "flux-dev-lora"),
        ("wavespeedai/flux-dev-lora", "wavespeed-ai/flux-dev-lora"),
        ("flux-kontex-dev-lora", "flux-kontext-dev-lora"),
        ("flux-kontext-lora", ""),
        ("flux-2-dev-lora", ""),
        ("flux-dev", ""),
        ("flux-pro-lora", ""),
        ("flux-dev2-lora", ""),
        ("other/flux-dev-lora", ""),
        ("x" * 5000, ""),
        ("", ""),
    ],
)
def test_a_hint_corrects_slips_and_never_proposes_another_model(name: str, meant: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        MODELS.find(name)
    assert ("did you mean" in caught.value.message) is bool(meant)
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
    other = Model("wavespeed-ai/flux-dev-lora", "v3", {"prompt": Parameter("prompt", "string")}, source="newer")
    models = Models([*MODELS, other])
    assert models.find("flux-dev-lora", "v3").source == "newer"
    assert models.find("flux-dev-lora").max_loras == 5
    both = Models(
        [*MODELS, Model("acme/flux-dev-lora", "v3", {}), Model("acme/twin", "v3", {}), Model("b/twin", "v3", {})]
    )
    assert both.find("flux-dev-lora").id == "wavespeed-ai/flux-dev-lora"
    with pytest.raises(UnknownModel):
        both.find("twin")

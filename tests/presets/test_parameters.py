"""The tables, the checks over them, and the request that they make."""

from __future__ import annotations

from decimal import Decimal

import pytest

from flux_lora_cli.domain.loras import parse_lora
from flux_lora_cli.domain.parameters import (
    MODELS,
    as_parameter_value,
    check_params,
    find_model,
    request_input,
)

DEV = MODELS["wavespeed-ai/flux-dev-lora"]
SCHNELL = MODELS["wavespeed-ai/flux-schnell-lora"]


def test_models_by_short_and_full_id():
    assert find_model("flux-dev-lora") is find_model("wavespeed-ai/flux-dev-lora") is DEV
    assert find_model("flux") is None
    assert DEV.documented_price == Decimal("0.015") and DEV.max_loras == 5
    assert SCHNELL.parameters["v2"]["num_inference_steps"].default == 4


def test_every_documented_default_is_explicit_on_v2():
    assert request_input(DEV, {"prompt": "a", "guidance_scale": 5.0}, 7) == {
        "prompt": "a",
        "image": "",
        "size": "1024*1024",
        "num_inference_steps": 28,
        "guidance_scale": 5,
        "num_images": 1,
        "seed": 7,
        "loras": [],
        "enable_safety_checker": True,
    }
    body = request_input(DEV, {"loras": [{"path": "o/n", "scale": 1.0}]}, 7)
    assert type(body["loras"][0]["scale"]) is int


def test_strength_goes_out_only_with_an_image():
    assert "strength" not in request_input(DEV, {"strength": 0.5}, 1)
    assert request_input(DEV, {"image": "https://x/y.png"}, 1)["strength"] == 0.6
    assert request_input(DEV, {"image": "https://x/y.png"}, 1, "v3")["strength"] == 0.8


def test_v3_has_its_own_table_without_the_safety_checker():
    body = request_input(DEV, {"prompt": "a", "output_format": "png"}, 1, "v3")
    assert "enable_safety_checker" not in body
    assert (body["guidance_scale"], body["output_format"]) == (3.5, "png")


def test_an_unknown_model_gets_what_was_written():
    assert request_input(None, {"prompt": "a", "x": 1.0}, 3) == {"prompt": "a", "seed": 3, "x": 1}


@pytest.mark.parametrize(
    ("model", "params", "version", "words"),
    [
        (DEV, {"num_inference_steps": 51}, "v2", "from 1 to 50"),
        (SCHNELL, {"num_inference_steps": 9}, "v2", "from 1 to 8"),
        (DEV, {"seed": -2}, "v2", "from -1 to 9999999999"),
        (DEV, {"seed": 2**31}, "v3", "from -1 to 2147483647"),
        (DEV, {"guidance_scale": 11}, "v2", "from 0 to 10"),
        (DEV, {"guidance_scale": float("nan")}, "v2", "not a finite number"),
        (DEV, {"size": "511*512"}, "v2", "512 to 1536"),
        (DEV, {"size": "255*512"}, "v3", "256 to 1536"),
        (DEV, {"num_images": True}, "v2", "boolean"),
        (DEV, {"num_images": 1.5}, "v2", "not a whole number"),
        (DEV, {"enable_safety_checker": True}, "v3", "API v2"),
        (DEV, {"output_format": "png"}, "v2", "API v3"),
        (DEV, {"output_format": "jpg"}, "v3", '"jpeg"'),
        (DEV, {"cfg_scale": 3}, "v2", '"guidance_scale"'),
        (DEV, {"loras": [{"path": "o/n", "scale": 5}]}, "v2", "from 0 to 4"),
        (DEV, {"loras": [{"path": "o/n", "weight": 1}]}, "v2", '"scale"'),
        (SCHNELL, {"loras": [{"path": "o/n"}] * 4}, "v2", "at most 3"),
        (None, {"seed": "x"}, "v2", "whole number"),
    ],
)
def test_what_is_refused(model, params, version, words):
    (problem,) = check_params(model, params, version)
    assert words in problem.message


@pytest.mark.parametrize(
    "params",
    [
        {"num_inference_steps": 28.0, "seed": 9999999999, "size": "512*1536"},
        {"image": "data:image/png;base64,aGk="},
        {"image": "photo.png"},
        {"loras": [{"path": "https://huggingface.co/o/n", "scale": 0}, {"path": "o/n.x", "scale": 4}]},
    ],
)
def test_what_is_taken(params):
    assert check_params(DEV, params) == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "-1", -1),
        ("guidance_scale", "3.50", 3.5),
        ("guidance_scale", "1e1", 10.0),
        ("enable_safety_checker", "no", False),
        ("size", " 1024*768 ", "1024*768"),
        ("prompt", "42", "42"),
        (
            "loras",
            "o/n:0.5 https://x.co/o/n",
            [{"path": "o/n", "scale": 0.5}, {"path": "https://x.co/o/n", "scale": 1}],
        ),
        ("other", "true", True),
    ],
)
def test_text_to_value(name, text, value):
    assert as_parameter_value(name, text) == (value, None)


@pytest.mark.parametrize("text", ["x", "1.5", "9" * 40, "", "0x10"])
def test_text_that_is_no_seed(text):
    assert as_parameter_value("seed", text)[1] is not None


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("o/n", "o/n", 1),
        ("o/n:0.6", "o/n", 0.6),
        ("o/n:2.0", "o/n", 2),
        ("https://h.co/o/n", "https://h.co/o/n", 1),
        ("https://h.co/o/n:1.5", "https://h.co/o/n", 1.5),
        ("https://h.co:8080/o/n", "https://h.co:8080/o/n", 1),
    ],
)
def test_lora_option(text, path, scale):
    lora = parse_lora(text)
    assert lora == {"path": path, "scale": scale} and type(lora["scale"]) is type(scale)


@pytest.mark.parametrize("text", ["", "name", "o/n:9", "o/n:-1", "o/n:nan", "../x", "file:///x"])
def test_no_lora(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_lora(text)


def test_text_that_begins_like_json_is_json_for_loras_and_unknown_names():
    value, problem = as_parameter_value("loras", '[{"path":"o/n","scale":1}, {"path": "o/m"}]')
    assert problem is None and value == [{"path": "o/n", "scale": 1}, {"path": "o/m", "scale": 1}]
    assert as_parameter_value("l", "[1,2]") == ([1, 2], None)
    assert as_parameter_value("l", ' {"a": null}') == ({"a": None}, None)
    assert as_parameter_value("prompt", "{a|b}") == ("{a|b}", None)
    for name, text, words in (
        ("l", "[1,", "Expecting value at character 4"),
        ("l", "[NaN]", "NaN is not a number"),
        ("l", "[1e999]", "huge number"),
        ("l", "[" * 100_000, "not"),
        ("loras", '[{"path": "o/n", "scale": 9}]', "out of range"),
        ("loras", '[{"path": "o/n"', "not: Expecting"),
        ("loras", '{"path": "o/n"}', "a list"),
    ):
        problem = as_parameter_value(name, text)[1]
        assert problem is not None and words in problem.message, text

"""The service's catalogue of models: read into tables, kept as a file, refused where it is none."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli import errors
from flux_lora_cli.service.models import (
    Catalogue,
    cache_path,
    check_request,
    load_models,
    read_catalogue,
    save_catalogue,
)
from flux_lora_cli.service.values import Parameter

NOW = datetime(2026, 11, 28, 4, 5, 6, tzinfo=UTC)
ORIGIN = "https://api.wavespeed.ai"
LORAS = {
    "type": "array",
    "default": [],
    "maxItems": 3,
    "items": {"type": "object", "properties": {"path": {"type": "string"}, "scale": {"type": "number"}}},
}
PROMPT = {"type": "string", "description": "What to draw."}


def entry(model_id: Any = "acme/new-lora", properties: Any = None, **more: Any) -> dict[str, Any]:
    request = {"properties": {"prompt": PROMPT, "loras": LORAS} if properties is None else properties}
    request |= {name: more.pop(name) for name in ("required",) if name in more}
    schemas = [{"api_path": more.pop("api_path", f"/api/v3/{model_id}"), "request_schema": request}]
    return {"model_id": model_id, "base_price": 0.02, **more, "api_schema": {"api_schemas": schemas}}


def save(path: Path, *entries: Any, **options: Any) -> Catalogue:
    return save_catalogue({"code": 200, "data": list(entries)}, path, origin=ORIGIN, fetched_at=NOW, **options)


@pytest.mark.parametrize(
    "wrap",
    [lambda e: e, lambda e: {"models": e}, lambda e: {"code": 200, "data": e}, lambda e: {"data": {"models": e}}],
)
def test_a_catalogue_becomes_tables(wrap: Any) -> None:
    head = {"origin": ORIGIN, "fetched_at": "2026-11-28T04:05:06Z"}
    (model,) = read_catalogue({**head, "models": wrap([entry()])}).models
    assert (model.id, model.version, model.max_loras, model.price) == ("acme/new-lora", "v3", 3, Decimal("0.02"))
    assert model.price_is_floor and model.checked
    assert "2026-11-28" in model.source and ORIGIN in model.source
    assert model.request({"prompt": "x"}, 7) == {"prompt": "x", "loras": []}


P = Parameter
SIZE = {"type": "string", "default": "1024*1024", "minimum": 256, "maximum": 1536}
PAIRS = {"type": "array", "items": {"type": "number"}, "default": [1]}
SCHEMAS: list[tuple[Any, Parameter]] = [
    ({"type": "integer", "default": 28, "minimum": 1, "maximum": 50}, P("steps", "integer", 28, 1, 50)),
    ({"type": "number", "default": 3.5, "minimum": 0, "maximum": 20}, P("cfg", "number", 3.5, 0, 20)),
    ({"type": "boolean", "default": False}, P("fast", "boolean", False)),
    (SIZE, P("size", "size", "1024*1024", 256, 1536)),
    ({"type": "string", "enum": ["1:1", "16:9"]}, P("size", "string", choices=("1:1", "16:9"))),
    ({"type": "string", "enum": ["a", "b"], "default": "a"}, P("mode", "string", "a", choices=("a", "b"))),
    ({"type": "string", "enum": ["a"], "default": "z"}, P("mode", "string", choices=("a",))),
    ({"type": "integer", "enum": [1, 2], "default": 1}, P("n", "integer", 1, choices=(1, 2))),
    ({"type": "string"}, P("image", "image")),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 3}, P("images", "images", max_items=3)),
    ({"type": "string"}, P("mask_image", "url")),
    *(({"type": kind}, P("odd", "any")) for kind in ("object", ["string", "null"])),
    *(({"type": "string", "enum": odd}, P("odd", "any")) for odd in ("abc", [{}])),
    *((odd, P("odd", "any")) for odd in ({"anyOf": [SIZE]}, {"type": "string", "$ref": "#/x"}, PAIRS, "text")),
    ({"type": "integer", "minimum": "1", "maximum": True, "default": "2"}, P("odd", "integer")),
    ({"type": "number", "maximum": float("inf"), "minimum": float("nan")}, P("odd", "number")),
    ({"type": "string", "description": "a\x1b[2J"}, P("odd", "string", description="a\\x1b[2J")),
    ({"type": "string", "description": 7}, P("odd", "string")),
]


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS)
def test_a_schema_is_mapped_and_never_guessed(schema: Any, expected: Parameter) -> None:
    (model,) = read_catalogue([entry(properties={"loras": LORAS, expected.name: schema})]).models
    assert model.parameters[expected.name] == expected


def test_what_is_required_follows_the_schema() -> None:
    (model,) = read_catalogue([entry(properties={"b": PROMPT, "loras": LORAS, "a": PROMPT}, required=["a", 7])]).models
    assert [problem.key for problem in check_request(model, {"steps": 1})] == ["steps", "a"]


BROKEN: list[Any] = [
    *("x", {}, *({"model_id": "acme/a", "api_schema": odd} for odd in (None, {"api_schemas": []}))),
    *(entry(model_id=odd) for odd in ("../x", "no-provider", 7, "a/" + "x" * 300)),
    *(entry(properties=odd) for odd in ({f"p{n}": PROMPT for n in range(201)}, {"a b": PROMPT}, {"\x1b[2J": PROMPT})),
    *(entry(properties={"loras": odd}) for odd in (PAIRS, PROMPT, {**LORAS, "items": {"properties": {"url": PROMPT}}})),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_entry_that_cannot_be_read_is_skipped_and_named(broken: Any) -> None:
    catalogue = read_catalogue([broken, entry()])
    assert [model.id for model in catalogue.models] == ["acme/new-lora"]
    (line,) = catalogue.skipped
    assert line.startswith("entry 1") and "\x1b" not in line and len(line) < 400


@pytest.mark.parametrize("items", [{}, {"items": {}}, {"items": {"type": "object", "properties": {"path": PROMPT}}}])
def test_a_list_of_loras_is_known_by_its_name(items: dict[str, Any]) -> None:
    other = {"type": "upload", "api_path": "/x"}
    one = entry(properties={"prompt": PROMPT, "loras": {"type": "array", **items}})
    one["api_schema"]["api_schemas"].insert(0, other)
    (model,) = read_catalogue([one]).models
    assert model.parameters["loras"] == Parameter("loras", "loras")
    assert not check_request(model, {"loras": [{"path": "a/b", "scale": 1}] * 9})


def test_only_models_that_take_loras_are_kept_unless_all_are_asked_for(tmp_path: Path) -> None:
    plain = entry("acme/plain", properties={"prompt": PROMPT})
    assert [model.id for model in save(tmp_path / "m.json", plain, entry()).models] == ["acme/new-lora"]
    assert "acme/plain" not in (tmp_path / "m.json").read_text()
    assert len(save(tmp_path / "m.json", plain, entry(), everything=True).models) == 2
    assert load_models({}, tmp_path / "m.json", ORIGIN).find("acme/plain").max_loras == 0


@pytest.mark.parametrize(
    "document", [None, 7, "x", {}, {"data": 7}, {"data": {"models": {}}}, [], ["x"], [{}] * 20_001]
)
def test_what_is_no_catalogue_is_refused(document: Any) -> None:
    with pytest.raises(errors.BadAnswer):
        read_catalogue(document)


def test_what_is_saved_is_readable_and_read_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.json"
    saved = save(path, entry(), BROKEN[4])
    document = json.loads(path.read_text())
    assert (document["origin"], document["fetched_at"]) == (ORIGIN, "2026-11-28T04:05:06Z")
    assert len(path.read_text().splitlines()) > 10
    models = load_models({}, path, ORIGIN)
    assert models.find("new-lora") == saved.models[0]
    assert models.find("flux-schnell-lora").checked


def test_the_cache_of_another_service_is_not_used_wherever_it_lies(own_home: Path) -> None:
    save_catalogue([entry()], cache_path("sandbox"), origin="sandbox", fetched_at=NOW)
    cache_path("sandbox").rename(cache_path(ORIGIN))  # somebody copied it
    with pytest.raises(errors.UsageError):
        load_models({}, None, ORIGIN).find("new-lora")
    names = {cache_path(o).name for o in (ORIGIN, "sandbox", "http://127.0.0.1:8000", "http://127.0.0.1:8001")}
    assert len(names) == 4 and str(own_home) in str(cache_path(ORIGIN))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"models": [\n\n  oops]}', ":3:3: not valid JSON"),
        (b"", ":1:1: not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[]", ":1: the catalogue has no model"),
        (b'{"models": 7}', ":1: this is not a catalogue"),
        (b"9" * 5000, "not valid JSON"),
    ],
)
def test_a_broken_file_is_told_with_its_line(content: bytes, where: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(errors.PresetError) as caught:
        load_models({}, path, ORIGIN)
    assert where in caught.value.message and "m.json" in caught.value.message


def test_a_file_that_the_environment_names_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError):
        load_models({"FLUX_LORA_MODELS": str(tmp_path / "none.json")}, None, ORIGIN)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "file" / "m.json", tmp_path / "pipe", tmp_path, Path()):
        with pytest.raises(errors.FolderError):
            save(path, entry())
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("m.json")
    save(tmp_path / "link", entry())
    assert (tmp_path / "link").is_symlink() and (tmp_path / "m.json").is_file()

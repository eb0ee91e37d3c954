"""The service's own catalogue of models: read into tables, kept as a file."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import BadAnswer, FolderError, NotFoundError, PresetError
from flux_lora_cli.folder.files import read_regular_file, write_atomically
from flux_lora_cli.service.envelope import money
from flux_lora_cli.service.models import MAX_ITEMS, MODEL_ID, Model, Models, Version
from flux_lora_cli.service.values import Parameter, check_value, is_number
from flux_lora_cli.text import counted, printable

#: Limits on what is read. The service's catalogue has about 1,100 models of about 12 parameters. [third-party captures]
MAX_FILE, MAX_MODELS, MAX_PARAMETERS, MAX_TEXT = 64 * 1024 * 1024, 20_000, 200, 2000
VARIABLE = "FLUX_LORA_MODELS"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_REREAD = "Read it anew with `flux-lora models --update`."
_STAY = "The tables at hand stay as they are."


@dataclass(frozen=True)
class Catalogue:
    models: tuple[Model, ...]  # in the service's order
    entries: tuple[dict[str, Any], ...]  # of the document, one for each of them
    skipped: tuple[str, ...]  # one line per entry that could not be read
    origin: str  # the service that it is from; "" where a file does not say


def read_catalogue(document: Any, *, origin: str = "", fetched_at: str = "", loras_only: bool = False) -> Catalogue:
    """The tables of a catalogue.

    Args:
        document: as ``Client.models`` or a saved file has it.

    Raises:
        BadAnswer: it is not a catalogue, or has no model that takes LoRAs.
    """
    listed = document
    if isinstance(document, dict):
        origin, fetched_at = origin or _text(document.get("origin")), fetched_at or _text(document.get("fetched_at"))
    for _ in range(2):  # {code, data: {models: [...]}} at most
        if isinstance(listed, dict):
            listed = next((listed[name] for name in ("models", "data", "items") if name in listed), None)
    if not isinstance(listed, list) or len(listed) > MAX_MODELS:
        raise BadAnswer("this is not a catalogue of models", _STAY)
    source = f"catalogue of {origin or 'the service'}" + (f", {fetched_at[:10]}" if fetched_at else "")
    models, entries, skipped = [], [], []
    for number, entry in enumerate(listed, 1):
        try:
            model = _model(entry, source)
        except (ValueError, TypeError, LookupError, AttributeError, StopIteration) as error:
            name = f" ({_text(entry.get('model_id'))})" if isinstance(entry, dict) and entry.get("model_id") else ""
            why = error if type(error) is ValueError else "a field is missing or has an unexpected type"
            skipped.append(f"entry {number}{name}: {why}")
            continue
        if model.max_loras or not loras_only:
            models.append(model)
            entries.append(entry)
    if not any(model.max_loras for model in models):
        why = f"; {counted(len(skipped), 'entry', 'entries')} could not be read: {skipped[0]}" if skipped else ""
        raise BadAnswer(f"the catalogue has no model that takes LoRAs{why}", _STAY)
    return Catalogue(tuple(models), tuple(entries), tuple(skipped), origin)


def _model(entry: dict[str, Any], source: str) -> Model:
    """One entry as a table. Raises what Python raises where the entry has another shape."""
    schemas = entry["api_schema"]["api_schemas"]
    schema = next(each for each in schemas if "properties" in each.get("request_schema", ()))
    name, price = entry["model_id"], money(entry.get("base_price"))
    if not MODEL_ID.fullmatch(name) or "/" not in name or len(name) > 200:
        raise ValueError("not a valid model_id")
    price = price if price is not None and price > 0 else None
    version: Version = "v2" if str(schema.get("api_path")).startswith("/api/v2/") else "v3"
    return Model(name, version, _parameters(schema["request_schema"]), price, price is not None, source)


def _parameters(schema: dict[str, Any]) -> dict[str, Parameter]:
    properties, required = schema["properties"], schema.get("required")
    if len(properties) > MAX_PARAMETERS or not all(map(_NAME.fullmatch, properties)):
        raise ValueError("too many parameters, or one with an odd name")
    needed = required if isinstance(required, list) else []
    rows = {name: _parameter(name, description, name in needed) for name, description in properties.items()}
    if "loras" in rows and rows["loras"].type != "loras":
        raise ValueError("its loras are not a list of {path, scale}")
    return rows


def _parameter(name: str, schema: Any, required: bool) -> Parameter:
    """One property; of type ``any`` where the schema says something that our checks do not know."""
    kind = _type(name, schema) if isinstance(schema, dict) else "any"
    if kind == "any":
        return Parameter(name, "any", required=required)
    low, high, most, default = (schema.get(word) for word in ("minimum", "maximum", "maxItems", "default"))
    ranged = kind in ("integer", "number", "size")
    bare = Parameter(
        name,
        kind,
        minimum=low if ranged and is_number(low) else None,
        maximum=high if ranged and is_number(high) else None,
        choices=tuple(schema.get("enum", ())) if kind in ("string", "integer", "number") else (),
        required=required,
        max_items=most if kind in ("images", "loras") and isinstance(most, int) and 0 < most <= MAX_ITEMS else None,
        description=_text(schema.get("description")),
    )
    fits = default is not None and check_value(bare, default)[1] is None
    return replace(bare, default=default) if fits else bare


def _type(name: str, schema: Mapping[str, Any]) -> str:
    kind, items, choices = schema.get("type"), schema.get("items", {}), schema.get("enum", [])
    plain = isinstance(choices, list) and all(isinstance(each, (str, int, float)) for each in choices[:1001])
    if not plain or len(choices) > 1000 or schema.keys() & {"anyOf", "oneOf", "allOf", "$ref", "not", "const"}:
        return "any"
    if kind == "array" and isinstance(items, dict):
        of, fields = items.get("type"), items.get("properties") or ("path",)
        fits = {"images": of in (None, "string"), "loras": of in (None, "object") and "path" in fields}
        return name if fits.get(name) else "any"
    if kind == "string":
        special = {"size": "size", "image": "image", "mask_image": "url"}
        return "string" if choices else special.get(name, "string")
    return kind if kind in ("integer", "number", "boolean") else "any"


def _text(value: Any) -> str:
    return printable(value[:MAX_TEXT]) if isinstance(value, str) else ""


# ---- files --------------------------------------------------------------------------------------


def save_catalogue(
    document: Any, path: Path, *, origin: str, fetched_at: datetime, everything: bool = False
) -> Catalogue:
    """Keep a catalogue as a readable file, replaced atomically; the old one stays where the new one is refused.

    Raises:
        BadAnswer: it is not a catalogue, or has no model that takes LoRAs.
        FolderError: the file cannot be written.
    """
    at = fetched_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    catalogue = read_catalogue(document, origin=origin, fetched_at=at, loras_only=not everything)
    text = json.dumps({"origin": origin, "fetched_at": at, "models": catalogue.entries}, indent=1)
    real = Path(os.path.realpath(path))  # a link stays one
    try:
        if real.exists() and not real.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        real.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(real, text.encode(), 0o644)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror}", "Name a file: models --update FILE.") from None
    return catalogue


def cache_path(origin: str) -> Path | None:
    """Where the catalogue of a service is kept for this user; None where there is no home folder.

    Args:
        origin: of the service's base URL, or ``sandbox``.
    """
    from platformdirs import user_cache_dir

    name = re.sub(r"[^A-Za-z0-9.-]+", "-", origin.removeprefix("https://")).strip("-")
    try:
        path = Path(user_cache_dir("flux-lora", appauthor=False)) / f"models-{name}.json"
    except RuntimeError:  # of newer versions; older ones leave "~" where it is
        return None
    return path if path.is_absolute() else None


def load_models(env: Mapping[str, str], file: Path | None, origin: str) -> Models:
    """The built-in tables, and over them, version by version, those of a catalogue.

    Args:
        file: what ``--models`` names; else ``FLUX_LORA_MODELS``; else this user's cache for ``origin``, if it is there.

    Raises:
        NotFoundError: the named file does not exist.
        PresetError: it is broken; the message names the line where that can be told.
    """
    named = file or (Path(env[VARIABLE]) if env.get(VARIABLE) else None)
    path = named or cache_path(origin)
    if path is None or (named is None and not os.access(path, os.R_OK)):
        return Models.builtin()
    catalogue = _load_catalogue(path)
    if named is None and catalogue.origin != origin:
        return Models.builtin()
    return Models([*Models.builtin(), *catalogue.models])


def _load_catalogue(path: Path) -> Catalogue:
    """A saved catalogue, or a dump of the service's answer."""
    try:
        data = read_regular_file(path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}", "Make it with models --update FILE.") from None
    except OSError as error:
        raise PresetError(f"{path}: {error.strerror}", _REREAD) from None
    try:
        catalogue = read_catalogue(json.loads(data.decode("utf-8-sig")))
    except (ValueError, RecursionError, MemoryError) as error:
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise PresetError(f"{path}{where}: not valid JSON: {str(error)[:100]}", _REREAD) from None
    except BadAnswer as error:
        raise PresetError(f"{path}:1: {error.message}", _REREAD) from None
    if catalogue.skipped and catalogue.origin:  # we wrote it, so somebody broke it since
        raise PresetError(f"{path}: {'; '.join(catalogue.skipped)}"[:500], _REREAD)
    return catalogue

"""What each model takes, as tables per model and API version: built in, or from the service's own catalogue."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from flux_lora_cli.errors import BadAnswer, FolderError, NotFoundError, PresetError, UsageError
from flux_lora_cli.folder.files import read_regular_file, write_atomically
from flux_lora_cli.service import values
from flux_lora_cli.service.envelope import money
from flux_lora_cli.service.values import Checked, Parameter, ValueProblem, by_value, check_value, described
from flux_lora_cli.text import counted, nearest, quoted

Version = Literal["v2", "v3"]

#: The model that is meant where none is named.
DEFAULT_MODEL = "wavespeed-ai/flux-dev-lora"
#: Seeds that the tool draws stay within 31 bits, the limit of v3.
MAX_DRAWN_SEED = 2_147_483_647
#: Limits on what is read. The service's catalogue has about 1,100 models. [third-party captures]
MAX_FILE, MAX_MODELS = 64 * 1024 * 1024, 20_000
VARIABLE = "FLUX_LORA_MODELS"

#: What may stand in a URL as a model's ID.
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_REREAD = "Read it anew with `flux-lora models --update`."
_STAY = "The tables at hand stay as they are."


class UnknownModel(UsageError):
    """No table says what a model takes on that API version."""


@dataclass(frozen=True)
class Model:
    id: str  # full, as the service has it: wavespeed-ai/flux-dev-lora
    version: Version
    parameters: Mapping[str, Parameter]
    price: Decimal | None = None  # documented USD per image; never taken for what the service charges
    price_is_floor: bool = False  # it may cost more: the catalogue's base_price
    source: str = ""  # where the table is from, and how old it is
    checked: bool = True  # False for a model without a table, whose parameters are sent as written

    @property
    def short(self) -> str:
        """The ID without its first part, by which it may be named, too."""
        return self.id.partition("/")[2] or self.id

    @property
    def max_loras(self) -> int:
        """How many LoRAs it takes; 0 where it takes none, MAX_ITEMS where no limit is declared."""
        loras = self.parameters.get("loras")
        return 0 if loras is None else loras.max_items or values.MAX_ITEMS

    @property
    def max_seed(self) -> int:
        """The highest seed that may be drawn."""
        row = self.parameters.get("seed")
        return MAX_DRAWN_SEED if row is None or row.maximum is None else max(0, min(MAX_DRAWN_SEED, int(row.maximum)))

    def request(self, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The body that is recorded and sent: documented defaults are explicit, ``strength`` goes with an image only.

        A checked model gets nothing that it does not declare; any other what the user wrote, and the seed.
        """
        body = {name: params.get(name, row.default) for name, row in self.parameters.items()}
        if not self.checked:
            body |= params
        if "seed" in self.parameters:
            body["seed"] = seed
        if not body.get("image") and not body.get("images"):
            body.pop("strength", None)
        return {name: by_value(value) for name, value in body.items() if name in params or value is not None}

    def named_image(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` with one ``image`` under the name that the model has for it, which may be ``images``."""
        if "image" not in params or "image" in self.parameters or "images" not in self.parameters:
            return dict(params)
        rest = {name: value for name, value in params.items() if name != "image"}
        return {**rest, "images": [params["image"]]}

    def price_of(self, request: Mapping[str, Any]) -> Decimal | None:
        """What the whole request costs by the documentation, USD."""
        images = request.get("num_images", 1)
        return self.price * images if self.price is not None and isinstance(images, int) else None


class Models:
    """The tables at hand. Later tables replace earlier ones of the same model and version."""

    def __init__(self, tables: Iterable[Model]) -> None:
        self._tables = {(model.id, model.version): model for model in tables}

    @classmethod
    def builtin(cls) -> Models:
        return cls(_BUILTIN)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._tables.values())

    def find(self, name: str, version: Version | None = None, *, allow_unknown: bool = False) -> Model:
        """The model of a short or full ID, on ``version`` or, where that is None, on its own version.

        Raises UnknownModel, unless ``allow_unknown``: no table has it. It corrects slips of the same name, and never
        proposes another model.
        """
        known = self._named(name)
        own: Version = "v2" if (known, "v2") in self._tables else "v3"
        found = self._tables.get((known or "", version or own))
        if found is not None:
            return found
        if allow_unknown and _MODEL_ID.fullmatch(known or name):
            # The types of the usual parameters alone are taken to be known.
            loose = {name: Parameter(name, row.type, description=row.description) for name, row in _USUAL.items()}
            return Model(known or name, version or "v3", loose, source="not checked", checked=False)
        if known is not None:
            hint = f"Leave out --api-version (it runs on {own}), or send it unchecked with --allow-unknown-model."
            raise UnknownModel(f"what {known} takes on API {version} is not known", hint)
        digits = re.sub(r"\D", "", name)
        names = (each for model in self for each in (model.short, model.id))
        alike = [each for each in names if re.sub(r"\D", "", each) == digits]
        near = get_close_matches(name[:200].casefold().replace("_", "-"), alike, n=1, cutoff=0.9)
        raise UnknownModel(
            f"unknown model {quoted(name)}" + (f"; did you mean '{near[0]}'?" if near else ""),
            "To list those known: flux-lora models; to read the service's catalogue: flux-lora models --update; "
            "--allow-unknown-model sends a request unchecked.",
        )

    def _named(self, name: str) -> str | None:
        """The full ID of a short or full one; None where no table, or more than one provider's, has it."""
        ids = {model.id for model in self if name in (model.id, model.short)}
        for preferred in (name, f"wavespeed-ai/{name}"):
            if preferred in ids:
                return preferred
        return ids.pop() if len(ids) == 1 else None


# ---- whole requests -----------------------------------------------------------------------------

#: What other tools call these parameters; no edit distance finds them.
_ALIASES = {
    "steps": "num_inference_steps",
    **dict.fromkeys(("guidance", "cfg", "cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("n", "num_outputs"), "num_images"),
    **dict.fromkeys(("width", "height", "aspect_ratio"), "size"),
    **dict.fromkeys(("image_url", "init_image", "images"), "image"),
    "image": "images",
    "lora": "loras",
    "safety_checker": "enable_safety_checker",
    "mask": "mask_image",
    "format": "output_format",
}


def unknown_key(model: Model, key: str, others: Iterable[str] = ()) -> ValueProblem:
    """The problem of a key that the model does not declare; ``others`` may stand in the same place."""
    known = [*model.parameters, *others]
    alias = _ALIASES.get(key.casefold().replace("-", "_"))
    near = alias if alias in known else "" if key in _USUAL else nearest(key, known)
    hint = f"did you mean '{near}'?" if near else "known: " + ", ".join(model.parameters)
    return ValueProblem(key, f"not a parameter of {model.short} on API {model.version}; {hint}", near or "")


def check_request(model: Model, params: Mapping[str, Any]) -> list[ValueProblem]:
    """Every problem of a whole set of parameters (``seed`` may be missing)."""
    rows = model.parameters
    found = [check_value(rows[key], value)[1] for key, value in params.items() if key in rows]
    found += [unknown_key(model, key) for key in params if model.checked and key not in rows]
    for name, row in rows.items():
        if row.required and name != "seed" and params.get(name) in (None, "", [], ()):
            needs = f"{model.short} on API {model.version} needs {name}; allowed: {row.allowed}"
            found.append(ValueProblem(name, needs))
    return [problem for problem in found if problem is not None]


def value_of_text(name: str, text: str) -> Checked:
    """The value that the text of an option or of ``--set`` means, and its problem; ranges depend on the model."""
    kind = _USUAL[name].type if name in _USUAL else "any"
    try:
        return check_value(Parameter(name, kind), values.typed(kind, text))
    except (ValueError, RecursionError) as error:
        return text, ValueProblem(name, f"begins like JSON and is not: {str(error)[:100]}")


# ---- the service's catalogue --------------------------------------------------------------------


@dataclass(frozen=True)
class Catalogue:
    origin: str  # the service that it is from; "" where a file does not say
    models: list[Model] = field(default_factory=list)  # in the service's order
    entries: list[dict[str, Any]] = field(default_factory=list)  # of the document, one for each of them
    skipped: list[str] = field(default_factory=list)  # one line per entry that could not be read


def read_catalogue(document: Any, *, loras_only: bool = False) -> Catalogue:
    """The tables of a catalogue: the service's answer, or a file that ``save_catalogue`` wrote.

    Raises BadAnswer: it is not a catalogue, or has no model that takes LoRAs.
    """
    head, listed = document if isinstance(document, dict) else {}, document
    for _ in range(3):  # {origin, models: {code, data: {models: [...]}}} at most
        if isinstance(listed, dict):
            listed = next((listed[name] for name in ("models", "data", "items") if name in listed), None)
    if not isinstance(listed, list) or len(listed) > MAX_MODELS:
        raise BadAnswer("this is not a catalogue of models", _STAY)
    origin, date = described(head.get("origin")), described(head.get("fetched_at"))[:10]
    source = ", ".join(filter(None, (f"catalogue of {origin or 'the service'}", date)))
    catalogue = Catalogue(origin)
    for number, entry in enumerate(listed, 1):
        try:
            model = _model(entry, source)
        except (ValueError, TypeError, LookupError, AttributeError, StopIteration) as error:
            name = f" ({described(entry.get('model_id'))})" if isinstance(entry, dict) and entry.get("model_id") else ""
            why = error if type(error) is ValueError else "a field is missing or has an unexpected type"
            catalogue.skipped.append(f"entry {number}{name}: {why}")
            continue
        if model.max_loras or not loras_only:
            catalogue.models.append(model)
            catalogue.entries.append(entry)
    if not any(model.max_loras for model in catalogue.models):
        skipped = catalogue.skipped
        why = f"; {counted(len(skipped), 'entry', 'entries')} could not be read: {skipped[0]}" if skipped else ""
        raise BadAnswer(f"the catalogue has no model that takes LoRAs{why}", _STAY)
    return catalogue


def _model(entry: dict[str, Any], source: str) -> Model:
    """One entry as a table. Raises what Python raises where the entry has another shape."""
    schemas = entry["api_schema"]["api_schemas"]
    schema = next(each for each in schemas if "properties" in each.get("request_schema", ()))
    name, price = entry["model_id"], money(entry.get("base_price"))
    if not _MODEL_ID.fullmatch(name) or "/" not in name or len(name) > 200:
        raise ValueError("not a valid model_id")
    price = price if price is not None and price > 0 else None
    version: Version = "v2" if str(schema.get("api_path")).startswith("/api/v2/") else "v3"
    return Model(name, version, values.parameters_of(schema["request_schema"]), price, price is not None, source)


def save_catalogue(
    document: Any, path: Path, *, origin: str, fetched_at: datetime, everything: bool = False
) -> Catalogue:
    """Keep a catalogue as a readable file, replaced atomically; the old one stays where the new one is refused.

    Raises as ``read_catalogue``; FolderError: the file cannot be written.
    """
    head = {"origin": origin, "fetched_at": fetched_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    catalogue = read_catalogue({**head, "models": document}, loras_only=not everything)
    real = Path(os.path.realpath(path))  # a link stays one
    try:
        if real.exists() and not real.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        real.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(real, json.dumps({**head, "models": catalogue.entries}, indent=1).encode(), 0o644)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror}", "Name a file: models --update FILE.") from None
    return catalogue


def cache_path(origin: str) -> Path | None:
    """Where the catalogue of a service (its origin, or ``sandbox``) is kept for this user; None: no home folder."""
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

    Raises NotFoundError: there is no such file; PresetError: it is broken, at a line where that can be told.
    """
    named = file or (Path(env[VARIABLE]) if env.get(VARIABLE) else None)
    path = named or cache_path(origin)
    if path is None or (named is None and not os.access(path, os.R_OK)):
        return Models.builtin()
    try:
        catalogue = read_catalogue(json.loads(read_regular_file(path, MAX_FILE).decode("utf-8-sig")))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}", "Make it with models --update FILE.") from None
    except OSError as error:
        raise PresetError(f"{path}: {error.strerror}", _REREAD) from None
    except (ValueError, RecursionError, MemoryError) as error:
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise PresetError(f"{path}{where}: not valid JSON: {str(error)[:100]}", _REREAD) from None
    except BadAnswer as error:
        raise PresetError(f"{path}:1: {error.message}", _REREAD) from None
    if catalogue.skipped and catalogue.origin:  # we wrote it, so somebody broke it since
        raise PresetError(f"{path}: {'; '.join(catalogue.skipped)}"[:500], _REREAD)
    known = named is not None or catalogue.origin == origin
    return Models([*Models.builtin(), *(catalogue.models if known else [])])


def _built_in() -> list[Model]:
    """One table per model and API version that the documentation describes.

    Sources: the API page of flux-dev-lora for v2; the official page of each model, October 2025, for v3. A default
    that no source names is none: nothing is sent unless the user writes it.
    """
    found = read_catalogue(json.loads(Path(__file__).with_suffix(".json").read_bytes()))
    pairs = zip(found.models, found.entries, strict=True)
    return [replace(model, source=entry["source"], price_is_floor=False) for model, entry in pairs]


_BUILTIN = _built_in()
#: The parameters that models of this kind have, for their types.
_USUAL = {
    **_BUILTIN[1].parameters,
    **_BUILTIN[0].parameters,
    "images": Parameter("images", "images", description="Input images."),
}

"""``flux-lora models``: which models take LoRAs, what they take, and what they cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from flux_lora_cli.commands.completion import offer_models
from flux_lora_cli.commands.console import Console, plain, print_table, some
from flux_lora_cli.commands.inputs import model_tables
from flux_lora_cli.commands.options import ModelTables, ServiceOptions, argument, command, flag
from flux_lora_cli.commands.running import check, connected
from flux_lora_cli.engine.budget import dollars
from flux_lora_cli.errors import FolderError, NotFoundError
from flux_lora_cli.service.models import Model, UnknownModel
from flux_lora_cli.service.values import MAX_ITEMS
from flux_lora_cli.text import counted, quoted

EXAMPLES = """
flux-lora models
flux-lora models flux-dev-lora
flux-lora models --update
flux-lora models --update models.json && flux-lora preset check --models models.json presets/*.yaml
"""


@command
def models(
    *,
    model: Annotated[
        str | None, argument("MODEL", "Short or full ID; with --update, the FILE to write.", complete=offer_models)
    ] = None,
    update: Annotated[
        bool,
        flag("--update", "Read the service's catalogue into FILE, or else the file of --models, or this user's cache."),
    ] = False,
    everything: Annotated[bool, flag("--all", "Include models that take no LoRAs.")] = False,
    file: ModelTables = None,
    service: ServiceOptions,
    console: Console,
) -> int:
    """List the models that take LoRAs, or show one with each parameter's type, range and default.

    The built-in tables are a start. --update reads the service's own; from then on they replace the built-in ones.
    Nothing is read from the service without it. Prices are as documented, per image; "from" marks the lowest price.
    """
    check(service, console)
    if update:
        return _update(service, console, Path(model) if model else file, everything)
    known = model_tables(file, service)
    if model is not None:
        try:
            return _show(known.find(model, service.api_version), console)
        except UnknownModel as error:
            if any(model in (each.id, each.short) for each in known):  # but not on this version
                raise
            hint = "To list those known: flux-lora models; to read the service's catalogue: flux-lora models --update"
            raise NotFoundError(error.message, hint) from None
    rows = [["MODEL", "API", "LORAS", "PRICE", "PARAMETERS", "TABLE"]]
    for each in (each for each in known if everything or each.max_loras):
        _record(each, console)
        rows.append([each.id, each.version, _loras(each), _price(each), str(len(each.parameters)), each.source])
    print_table(rows, console)
    console.summary.update(models=len(rows) - 1)
    console.info(f"{counted(len(rows) - 1, 'model')}; flux-lora models MODEL shows one with its parameters")
    return 0


def _show(model: Model, console: Console) -> int:
    _record(model, console)
    facts = f"API {model.version}; LoRAs: {_loras(model)}; price per image: {_price(model)}"
    for fact in (model.id, facts, model.source, ""):
        console.result(plain(fact))
    rows = [["PARAMETER", "TYPE", "ALLOWED", "DEFAULT", "DESCRIPTION"]]
    for each in model.parameters.values():
        default = "-" if each.default in (None, "", (), []) else quoted(each.default).strip('"')
        needed = "Required. " if each.required else ""
        rows.append([each.name, each.type, each.allowed, default, f"{needed}{each.description}"])
    print_table(rows, console)
    return 0


def _loras(model: Model) -> str:
    return str(model.max_loras) if model.max_loras < MAX_ITEMS else "no limit known"


def _price(model: Model) -> str:
    if model.price is None:
        return "not known"
    return f"{'from ' if model.price_is_floor else ''}{dollars(model.price)}"


def _record(model: Model, console: Console) -> None:
    price = None if model.price is None else f"{model.price:f}"
    parameters = [asdict(each) for each in model.parameters.values()]
    console.record(
        "model",
        {
            "id": model.id, "version": model.version, "loras": model.max_loras, "price_usd": price,
            "price_is_floor": model.price_is_floor, "source": model.source, "parameters": parameters,
        },
    )  # fmt: skip


def _update(service: ServiceOptions, console: Console, file: Path | None, everything: bool) -> int:
    from flux_lora_cli.engine.calls import ask
    from flux_lora_cli.service.models import cache_path, save_catalogue

    with connected(service, console) as (client, origin):
        path = file or cache_path(origin)
        if path is None:
            raise FolderError("there is no home folder to keep the catalogue in", "Name a file: models --update FILE")
        document = ask(client.models)
    saved = save_catalogue(document, path, origin=origin, fetched_at=datetime.now(UTC), everything=everything)
    if saved.skipped:
        number = counted(len(saved.skipped), "entry", "entries")
        console.warn(f"{number} of the catalogue could not be read: {some(saved.skipped)}", "catalogue")
    loras = sum(1 for model in saved.models if model.max_loras)
    console.result(str(path))
    console.record("catalogue", {"file": str(path), "models": len(saved.models), "loras": loras})
    console.summary.update(models=len(saved.models), skipped=len(saved.skipped))
    use = f"; use it with --models {path}" if file is not None else ""
    console.info(f"{counted(len(saved.models), 'model')}, {loras:,} with LoRAs{use}")
    return 0

"""What the submits of a plan cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from flux_lora_cli.domain.parameters import find_model
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.workflow.context import Work
from flux_lora_cli.workflow.planning import images_of

#: Parts of a request on which no documented price depends; asking for each prompt would be a flood.
_FREE = frozenset({"prompt", "seed", "image", "loras"})


@dataclass(frozen=True, slots=True)
class Priced:
    """Attributes: total: USD of all submits, None where some price is not known. source: who said so."""

    total: Decimal | None
    source: str | None


def price_works(
    works: Iterable[Work],
    ask_price: Callable[[JobRecord], Decimal | None] | None,
    per_image: Decimal | None,
) -> Priced:
    """Put a unit price on each work.

    Args:
        ask_price: USD for a whole request by the service, None where it does not say; None to ask nobody.
        per_image: USD an image (``--price``), where the service does not say.
    """
    total: Decimal | None = Decimal(0)
    sources: set[str | None] = set()
    known: dict[str, Decimal | None] = {}
    for work in works:
        record = work.record
        price = None
        if ask_price is not None:
            kind = price_kind(record)
            if kind not in known:
                known[kind] = ask_price(record)
            price = known[kind]
        source: str | None = "service" if price is not None else None
        if price is None and per_image is not None:
            price, source = per_image * images_of(record), "--price"
        work.unit_price = price
        sources.add(source)
        total = None if total is None or price is None else total + price
    return Priced(total, next(iter(sources)) if len(sources) == 1 else None)


def price_kind(record: JobRecord) -> str:
    """Requests of one kind cost the same."""
    whole = record.awake().input or {}
    request = {key: value for key, value in whole.items() if key not in _FREE}
    request["image"] = bool(whole.get("image"))
    request["loras"] = len(whole.get("loras") or ())
    return json.dumps([record.model, request], sort_keys=True, default=str)


def documented_price(record: JobRecord) -> Decimal | None:
    """USD for the request at the documented price of its model: for estimates only."""
    model = find_model(record.model or "")
    if model is None or model.documented_price is None:
        return None
    return model.documented_price * images_of(record)

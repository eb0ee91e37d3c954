"""Prices, asked for before the first submit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from flux_lora_cli.domain.backoff import Policy
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.errors import BadAnswer, RateLimited, Rejected, Uncertain
from flux_lora_cli.workflow.asking import ask
from flux_lora_cli.workflow.context import Work
from flux_lora_cli.workflow.ports import Clock, Service
from flux_lora_cli.workflow.pricing import Priced, price_works

#: Before a run the price is asked for a few times only: where nobody answers, it is not known.
_PRICE_TRIES = Policy(tries=4, base=1.0, cap=20.0)


def price_plan(
    works: Sequence[Work], service: Service, clock: Clock, per_image: Decimal | None, ends_at: float | None = None
) -> Priced:
    """Put prices on works: the service's, else ``per_image``.

    Args:
        ends_at: monotonic time after which the service is not asked again.

    Raises:
        AuthError, ServiceError, DeadlineError: see ``ask``.
    """

    def ask_price(record: JobRecord) -> Decimal | None:
        try:
            request = _shown(record)
            return ask(lambda: service.price(record.model or "", request), clock, random.random, _PRICE_TRIES, ends_at)
        except (Uncertain, BadAnswer, Rejected, RateLimited):
            return None

    return price_works(works, ask_price, per_image)


def _shown(record: JobRecord) -> dict[str, Any]:
    """The request as the price is asked for: a local image is no business of that question."""
    request = dict(record.input or {})
    if str(request.get("image") or "").startswith("inputs/"):
        del request["image"]
    return request

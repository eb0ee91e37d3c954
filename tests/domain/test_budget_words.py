"""What is said of durations and of a budget that is used up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from flux_lora_cli.domain.budget import Budget
from flux_lora_cli.workflow.calls import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (1, "1 second"), (1.5, "2 seconds"), (90, "90 seconds"), (91, "2 minutes"), (7300, "3 hours")],
)
def test_durations_are_rounded_up(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(("left", "words"), [(1, "1 job was not submitted"), (2, "2 jobs were not submitted")])
def test_what_a_budget_leaves_is_counted(left: int, words: str) -> None:
    assert words in Budget(Decimal("0.02"), Decimal("0.015")).refusal(Decimal("0.015"), left).message

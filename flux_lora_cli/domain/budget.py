"""What a run may spend: reserved before each submit, so that tasks in flight cannot overshoot it."""

from __future__ import annotations

from decimal import Decimal

from flux_lora_cli.errors import BudgetError


class Budget:
    """Money that is spent or spoken for, against a limit.

    Args:
        limit: USD, None where there is none.
        spent: USD that the folder has been charged so far; failed and unknown tasks count in full.
    """

    def __init__(self, limit: Decimal | None, spent: Decimal) -> None:
        self.limit = limit
        self.spent = spent

    def reserve(self, amount: Decimal | None) -> bool:
        """Set ``amount`` aside; False where the limit does not allow it (an unknown amount never is)."""
        if self.limit is not None and (amount is None or self.spent + amount > self.limit):
            return False
        self.spent += amount or Decimal(0)
        return True

    def refusal(self, amount: Decimal | None, left: int) -> BudgetError:
        """Why ``reserve`` said no to ``amount``; ``left`` jobs are not submitted for it."""
        if amount is None:
            return BudgetError(
                "the price of an image is not known, so --max-cost cannot be kept", "Name it with --price."
            )
        limit = self.limit or Decimal(0)
        return BudgetError(
            f"the budget is used up: {dollars(self.spent)} of {dollars(limit)} are charged or reserved, the next job"
            f" costs {dollars(amount)}; {left} {'job was' if left == 1 else 'jobs were'} not submitted",
            "Raise --max-cost and run the same command again.",
        )

    def release(self, amount: Decimal | None) -> None:
        """Give back what a refused submit had set aside."""
        self.spent -= amount or Decimal(0)


def plain(amount: Decimal) -> str:
    """Money without an exponent and without idle zeros, for programs."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def dollars(amount: Decimal) -> str:
    """Money for people: ``$14.40``, ``$0.015``, ``$6``."""
    text = plain(amount)
    return f"${text}0" if len(text.partition(".")[2]) == 1 else f"${text}"

"""A question to the service outside a run, asked again as the policy allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flux_lora_cli.domain.backoff import LIST, NEVER_SENT, THROTTLED, Draw, Policy
from flux_lora_cli.errors import BadAnswer, DeadlineError, FluxLoraError, NeverSent, RateLimited, Uncertain
from flux_lora_cli.workflow.calls import LONGEST_WAIT, too_long
from flux_lora_cli.workflow.ports import Clock

T = TypeVar("T")


def ask(question: Callable[[], T], clock: Clock, draw: Draw, policy: Policy = LIST, ends_at: float | None = None) -> T:
    """The answer to ``question``, which must change nothing at the service.

    Args:
        ends_at: monotonic time after which it is not asked again.

    Raises what the last try raised; DeadlineError where the service wants to be left alone for long, or time is over.
    """
    failures = throttled = 0
    patience = LONGEST_WAIT
    while True:
        try:
            return question()
        except RateLimited as error:
            if (error.retry_after or 0) > LONGEST_WAIT:
                raise too_long(error.retry_after or 0.0) from None
            throttled += 1
            delay = THROTTLED.delay(throttled - 1, draw, error.retry_after)
            patience -= delay
            if patience < 0:
                raise
        except (NeverSent, Uncertain, BadAnswer) as error:
            failures += 1
            if not _allowed(error, policy).more(failures):
                raise
            asked = getattr(error, "retry_after", None)
            if (asked or 0) > LONGEST_WAIT:
                raise too_long(asked or 0.0) from None
            delay = policy.delay(failures - 1, draw, asked)
        if ends_at is not None and clock.monotonic() + delay >= ends_at:
            raise out_of_time()
        clock.sleep(delay)


def out_of_time() -> DeadlineError:
    """The run's time was over before its first submit."""
    return DeadlineError(
        "the run's time (--timeout) was over before the service had named the price",
        "Nothing was submitted by this run. Run the same command again later.",
    )


def _allowed(error: FluxLoraError, policy: Policy) -> Policy:
    """A host that cannot be reached at all is most often a wrong one: that is said soon."""
    return NEVER_SENT if isinstance(error, NeverSent) and policy.tries > NEVER_SENT.tries else policy

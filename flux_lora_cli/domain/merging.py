"""Two records of one job become one: the better result stays, and every charge counts."""

from __future__ import annotations

from dataclasses import replace

from flux_lora_cli.domain.records import JobRecord, State

#: From least to most worth keeping. What may still turn out paid for is kept over what was not.
_WORTH = (
    State.PLANNED,
    State.SKIPPED,
    State.FAILED,
    State.SUBMITTING,
    State.UNKNOWN,
    State.SUBMITTED,
    State.COMPLETED,
)


def worth(record: JobRecord) -> tuple[int, int]:
    """Return a measure to choose between two records of one job: by state, then by images saved."""
    return _WORTH.index(record.state), sum(output.file is not None for output in record.outputs)


def charge_id(record: JobRecord) -> str | None:
    """Return what tells one charge for a job from another: the task, else the time of the intent.

    None where nothing was submitted.
    """
    if not record.attempts:
        return None
    return record.task_id or f"intent {record.intent_at or record.fingerprint}"


def same_charge(one: JobRecord, other: JobRecord) -> bool:
    """Whether two records tell of one submit, perhaps at different times."""
    if one.task_id is not None and other.task_id is not None:
        return one.task_id == other.task_id
    return one.intent_at == other.intent_at


def join(kept: JobRecord, other: JobRecord, *, add_charge: bool) -> JobRecord:
    """Return the one record of a job that two folders have.

    Args:
        kept: of the merged folder; its place there stays.
        other: of a source; its files are already copied where it is the better one.
        add_charge: ``other`` is a charge of its own that was not counted before. Where one of the
            prices is not known, neither is the sum.
    """
    better = other if worth(other) > worth(kept) else kept
    price, attempts = other.price, other.attempts
    if add_charge and kept.attempts and other.attempts:
        attempts = kept.attempts + other.attempts
        price = None if kept.price is None or other.price is None else kept.price + other.price
    elif kept.attempts:  # perhaps a sum already
        attempts = max(kept.attempts, other.attempts)
        if kept.price is not None or kept.attempts > other.attempts:
            price = kept.price
    names = dict.fromkeys(name for name in (kept.id, *kept.aliases, other.id, *other.aliases) if name)
    first = kept.id or other.id
    names.pop(first or "", None)
    return replace(better, order=kept.order, id=first, aliases=tuple(names), price=price, attempts=attempts)

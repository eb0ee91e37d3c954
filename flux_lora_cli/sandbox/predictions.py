"""Predictions as the API shows them."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from .messages import Refusal
from .store import Listing, Task

if TYPE_CHECKING:
    from .outputs import Pictures

_MAX_PAGE: Final = 100


def iso(seconds: float) -> str:
    """UTC with milliseconds, as the service writes it."""
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 1000:03d}Z"


def shown(task: Task, version: str, now: float, origin: str, pictures: Pictures | None) -> dict[str, Any]:
    """One prediction. ``pictures`` puts base64 outputs in place, where the task asked for them."""
    status = task.status(now)
    done = status == "completed"
    item: dict[str, Any] = {
        "id": task.id,
        "model": task.model,
        "outputs": _outputs(task, origin, pictures) if done else [],
        "urls": {"get": f"{origin}/api/{version}/predictions/{task.id}/result"},
        "has_nsfw_contents": [bool(task.flags >> place & 1) for place in range(task.images)] if done else [],
        "status": status,
        "created_at": iso(task.created),
        "error": task.error if status not in ("created", "processing") else "",
    }
    spent = round((task.finish - task.start) * 1000) if now >= task.finish else 0
    if version == "v2":
        item["executionTime"] = spent
    else:
        item["timings"] = {"inference": spent}
    if item["error"]:
        item["code"] = task.code
    return item


def _outputs(task: Task, origin: str, pictures: Pictures | None) -> list[str]:
    from .outputs import extension, wants_base64

    numbers = range(1, task.images + 1)
    if pictures is not None and wants_base64(task):
        made = [pictures.picture(task, number) for number in numbers]
        return [f"data:{item.media_type};base64,{base64.b64encode(item.data).decode()}" for item in made]
    return [f"{origin}/outputs/{task.id}/{number}.{extension(task)}" for number in numbers]


def listing(wanted: dict[str, Any]) -> Listing:
    """Which predictions are asked for.

    Raises:
        Refusal: 400, where a field is out of range or of the wrong type.
    """
    return Listing(
        page=_whole(wanted, "page", 1, 10**9),
        page_size=_whole(wanted, "page_size", 20, _MAX_PAGE),
        model=_text(wanted, "model"),
        status=_text(wanted, "status"),
        after=_time(wanted, "created_after"),
        before=_time(wanted, "created_before"),
    )


def _whole(wanted: dict[str, Any], name: str, default: int, most: int) -> int:
    value = wanted.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Refusal(400, f"invalid parameter {name}: 1 to {most} is expected")
    return value


def _text(wanted: dict[str, Any], name: str) -> str:
    value = wanted.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refusal(400, f"invalid parameter {name}: a string is expected")
    return value


def _time(wanted: dict[str, Any], name: str) -> float | None:
    text = _text(wanted, name)
    if not text:
        return None
    try:
        stamp = datetime.fromisoformat(_padded(text.replace("Z", "+00:00")))
    except ValueError as error:
        raise Refusal(400, f"invalid parameter {name}: an ISO 8601 time is expected") from error
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=timezone.utc)).timestamp()


def _padded(text: str) -> str:
    """Fractions of a second in six digits: Python 3.10 reads no others but three."""
    head, dot, rest = text.partition(".")
    if not dot:
        return text
    digits = "".join(character for character in rest[: len(rest)] if character.isdigit())
    cut = next((place for place, character in enumerate(rest) if not character.isdigit()), len(rest))
    return f"{head}.{digits[:cut][:6].ljust(6, '0')}{rest[cut:]}"

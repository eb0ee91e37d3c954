"""``<lora:PATH:SCALE>`` in a finished prompt; prompts as literal text, and as words."""

from __future__ import annotations

import re
from typing import Any

from flux_lora_cli.presets.prompts import HOLD, WILDCARD
from flux_lora_cli.service.values import check_lora, parse_lora

_LORA_TAG = re.compile(r"<lora:([^<>]*)>")


_TWO_SCALES = re.compile(r":[0-9.]+:[0-9.]+\s*$")


def take_tags(text: str) -> tuple[str, list[str]]:
    """Take ``<lora:PATH:SCALE>`` out of a finished prompt; what is left, and the insides of the tags."""
    tags: list[str] = []
    if "<lora:" in text:
        tags = _LORA_TAG.findall(text)
        text = _LORA_TAG.sub("", text)
        text = re.sub(r"[ \t]{2,}", " ", text)
        text = re.sub(r"(?<!\s)\s+([,.;])", r"\1", text)
        text = re.sub(r"([,;])(?:\s*[,;])+", r"\1", text).strip(" ,;\t")
    if "<lora:" in text:  # what is left of them is not closed; an escaped one is still held
        tags.append("")
    if HOLD in text:
        text = text.replace(HOLD + "1", "<").replace(HOLD + "0", HOLD)
    return text, tags


def read_tag(tag: str) -> tuple[dict[str, Any] | None, str]:
    """The LoRA of a tag's inside, or why it is none."""
    if not tag:
        return (
            None,
            "<lora: is never closed: the > is missing; write <lora:owner/name:1>, or \\<lora: for a literal one",
        )
    if _TWO_SCALES.search(tag):
        return None, f"<lora:{tag[:80]}>: two scales; a LoRA has one here, for the whole of it: <lora:owner/name:0.8>"
    lora, _, why = check_lora(parse_lora(tag))
    return (None, f"<lora:{tag[:80]}>: {why}") if why else (lora, "")


_EXPANDED = re.compile(r"\$(?=\{)|\{|_(?=_)|<(?=lora:)|(?<=\\)[}$_|<:-]")


_MARKUP = re.compile(r"<lora:[^<>]*>|[${}|\\]+")


def literal(prompt: str) -> str:
    """A prompt with everything escaped that the language would expand."""
    return _EXPANDED.sub(lambda match: "\\" + match[0], prompt)


def has_marks(text: str) -> bool:
    """Whether a literal prompt holds what the language would read."""
    return bool(re.search(r"<lora:[^<>]+>|\{[^{}]*\|[^{}]*\}|\$\{[^{}]+\}", text) or WILDCARD.search(text))


def words_of(prompt: str) -> str:
    """The words of a prompt without marks, for its ID."""
    return _MARKUP.sub(" ", prompt[:2000])

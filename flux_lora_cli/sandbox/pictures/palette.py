"""Colours: hand-picked palettes, and how prompt, LoRA stack and guidance turn one into another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Final

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture, from the zenith down."""

    zenith: Colour
    sky: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour
    accent: Colour


def _palette(*codes: str) -> Palette:
    rgb = [tuple(bytes.fromhex(code)) for code in codes]
    return Palette(*((red, green, blue) for red, green, blue in rgb))


PALETTES: Final[dict[str, Palette]] = {
    "dusk": _palette("1b1f4b", "6a3d7c", "f08a6b", "ffd9a0", "7a4f86", "1d1836", "ff6f59"),
    "noon": _palette("2467a8", "7cc0e8", "f3f0dc", "fffbe6", "8db6bd", "1f4d4a", "f2a541"),
    "retro": _palette("10243e", "1f5673", "f2c57c", "fff1c9", "c8553d", "3a1f2b", "f28f3b"),
    "mint": _palette("0f3d3e", "3c8d83", "d8efd3", "fdf6d8", "7fb7a3", "12302f", "f4845f"),
    "rose": _palette("432454", "a2527f", "f7b2ad", "ffe8d6", "a86a8a", "2c1630", "ffd166"),
    "ice": _palette("1d3557", "457b9d", "d4e9ef", "ffffff", "8fb1c7", "1b2d42", "e76f51"),
    "gold": _palette("4a2c1a", "b8642a", "f6c65b", "fff3c4", "b9722f", "2a170f", "d1495b"),
    "lagoon": _palette("073b4c", "118a8c", "ffd6a5", "fff0d4", "3f8f8a", "06222b", "ef476f"),
    "lavender": _palette("2e2a5b", "7d77c4", "e8d9f3", "fff8ff", "9a8fcb", "221f45", "f9a03f"),
    "ember": _palette("160d1c", "5c1a33", "e5532d", "ffc15e", "7d2a3c", "150a12", "ffe29a"),
    "moss": _palette("16302b", "4f7f63", "dfe6b3", "fbfad2", "7fa377", "12241f", "e9b44c"),
    "ink": _palette("20222b", "5c6270", "d9d7cf", "fffdf6", "8f939c", "191b22", "c8443f"),
}
_NIGHT: Final = _palette("050816", "111a3d", "2c3d74", "f4f1de", "2b3763", "05070f", "f2c14e")


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """``share`` of the other colour in the one, 0 to 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def blend(one: Palette, other: Palette, share: float) -> Palette:
    """Two palettes mixed colour by colour."""
    return Palette(*(mix(getattr(one, item.name), getattr(other, item.name), share) for item in fields(Palette)))


def named(text: str) -> Palette:
    """Some palette, always the same for the same text."""
    names = list(PALETTES)
    return PALETTES[names[hashlib.sha256(text.encode("utf-8", "replace")).digest()[0] % len(names)]]


def of_stack(base: Palette, loras: tuple[tuple[str, float], ...]) -> Palette:
    """Each LoRA pulls the colours towards its own, as far as its scale says; the strongest comes last."""
    for path, scale in sorted(loras, key=lambda lora: (lora[1], lora[0])):
        base = blend(base, named(path), min(0.92, scale * 0.75))
    if loras:
        base = replace(base, accent=named(loras[-1][0]).accent)
    return base


def at_night(day: Palette) -> Palette:
    """The same colours without the sun."""
    return blend(day, _NIGHT, 0.72)


def at_guidance(palette: Palette, guidance: float) -> Palette:
    """Little guidance is pale, much is vivid; 5 changes nothing."""
    factor = 0.55 + 0.45 * min(guidance, 20) / 5 if guidance < 5 else 1 + (min(guidance, 20) - 5) * 0.09
    return Palette(*(_vivid(getattr(palette, item.name), factor) for item in fields(Palette)))


def _vivid(colour: Colour, factor: float) -> Colour:
    grey = sum(colour) / 3
    red, green, blue = (max(0, min(255, round(grey + (part - grey) * factor))) for part in colour)
    return (red, green, blue)

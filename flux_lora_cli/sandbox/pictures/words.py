"""What a prompt's words ask for: a place, an hour, weather, figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PLACES: Final[dict[str, str]] = {
    "mountains": "mountain mountains alps peak peaks valley hill hills cliff canyon volcano lake",
    "dunes": "desert dune dunes sand sahara savanna mars martian camel pyramid",
    "sea": "sea ocean beach coast wave waves harbor harbour island ship boat sailing lighthouse whale water",
    "forest": "forest tree trees woods jungle garden fox deer bear wolf owl autumn park",
    "city": "city street town tokyo paris london york skyline neon cyberpunk building tower car robot",
    "space": "space planet planets galaxy stars nebula saturn jupiter moon lunar astronaut orbit cosmic alien nasa",
    "shapes": "abstract geometric geometry pattern bauhaus logo shapes minimal poster collage cubist texture",
}  # fmt: skip
FIGURES: Final[dict[str, str]] = {
    "cat": "cat cats kitten kitty",
    "fox": "fox foxes dog wolf corgi puppy",
    "rocket": "rocket rockets spaceship spacecraft launch",
    "boat": "boat boats ship ships sailing sailboat yacht",
    "house": "house houses cabin cottage hut home village base",
    "balloon": "balloon balloons airship",
    "birds": "bird birds gull gulls crow crows swallow raven eagle",
    "lighthouse": "lighthouse",
    "person": "person man woman girl boy astronaut portrait wanderer samurai knight monk people human",
    "pine": "pine fir tree spruce",
}
_HOURS: Final[dict[str, str]] = {
    "night": "night midnight moonlit moonlight starry dark nocturne neon",
    "dawn": "dawn sunrise morning",
    "sunset": "sunset dusk evening golden",
}
_WEATHER: Final[dict[str, str]] = {
    "snow": "snow snowy winter ice icy frost arctic blizzard",
    "rain": "rain rainy storm stormy monsoon",
    "mist": "mist misty fog foggy haze hazy cloud cloudy clouds",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the prompt asks for; empty where it does not say."""

    place: str
    hour: str
    weather: str
    figures: tuple[str, ...]


def read(prompt: str) -> Said:
    """The words of a prompt that a painter understands; the first of each kind counts."""
    words = re.findall(r"[a-z]+", prompt.lower())
    return Said(
        place=_first(words, PLACES),
        hour=_first(words, _HOURS),
        weather=_first(words, _WEATHER),
        figures=tuple(name for name, known in FIGURES.items() if set(known.split()) & set(words))[:2],
    )


def _first(words: list[str], kinds: dict[str, str]) -> str:
    for word in words:
        for name, known in kinds.items():
            if word in known.split():
                return name
    return ""

"""Output folders for the gallery's tests: a manifest in the documented shape, and small pictures."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

MODEL = "wavespeed-ai/flux-dev-lora"
NASA = "davanstrien/nasa_concept_art-flux-lora"
RETRO = "multimodalart/flux-tarot-v1"
STACKS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "nasa": [{"path": NASA, "scale": 0.9}],
    "tarot": [{"path": RETRO, "scale": 1}],
    "both": [{"path": NASA, "scale": 0.6}, {"path": RETRO, "scale": 0.5}],
}
PLACES = {
    "dawn": "a lunar base at dawn, long shadows over grey regolith, travel poster, screen print, limited palette",
    "rings": "the rings of Saturn seen from an observation deck, travel poster, grain, warm light",
    "reef": "a glass city under a coral reef, travel poster, teal and orange, small boats far above",
}


def draw(seed: int, width: int = 256, height: int = 256, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A picture that depends on ``seed`` alone; a landscape of a few shapes."""
    chance = random.Random(seed)
    hue = chance.randrange(256)
    sky = Image.new("HSV", (1, 8))
    for y in range(8):
        sky.putpixel((0, y), ((hue + y * 5) % 256, 150 - y * 9, 90 + y * 19))
    image = sky.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(image)
    x, y, r = chance.randrange(width), height // 3, width // (4 + chance.randrange(6))
    brush.ellipse((x - r, y - r, x + r, y + r), fill=(250, 236 - chance.randrange(60), 200))
    for layer in range(4):
        top = height * (5 + layer) // 9
        points = [(i * width // 6, top + chance.randrange(-height // 10, height // 10)) for i in range(7)]
        shade = Image.new("HSV", (1, 1), ((hue + 120) % 256, 120, 120 - layer * 26)).convert("RGB").getpixel((0, 0))
        brush.polygon([*points, (width, height), (0, height)], fill=shade)
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **({"quality": 88} if kind == "JPEG" else {}))
    return out.getvalue()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def job(job_id: str, **values: Any) -> dict[str, Any]:
    """A completed job's entry without outputs; ``values`` replace request parameters or entries."""
    request = {
        "prompt": "a cat", "size": "1024*1024", "num_inference_steps": 28, "guidance_scale": 5.0,
        "num_images": 1, "seed": 1, "loras": [], "enable_safety_checker": True,
    }  # fmt: skip
    entry: dict[str, Any] = {
        "id": job_id, "aliases": [], "preset": "posters", "fingerprint": _digest(job_id),
        "state": "completed", "request": {"model": values.pop("model", MODEL), "input": request},
        "task": {
            "id": "t" + _digest(job_id)[:32], "model": MODEL, "status": "completed",
            "created_at": "2026-11-23T03:14:15.123Z", "execution_ms": 2412, "error": "", "matched_by": None,
        },
        "outputs": [], "attempts": 1, "cost_usd": "0.015", "error": None,
    }  # fmt: skip
    for key, value in values.items():
        (entry if key in entry else request)[key] = value
    return entry


def failed(job_id: str, error: str, **values: Any) -> dict[str, Any]:
    """A failed job's entry."""
    return job(job_id, state="failed", error=error, **values)


def add_image(folder: Path, entry: dict[str, Any], data: bytes, name: str, nsfw: bool | None = False) -> None:
    """Save ``data`` as the entry's next output."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        size, media = image.size, Image.MIME[image.format or "PNG"]
    entry["outputs"].append(
        {
            "index": len(entry["outputs"]), "url": "https://cdn.example/x.png?signature=secret",
            "nsfw": nsfw, "file": name,
            "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "width": size[0], "height": size[1],
            "media_type": media, "saved_at": "2026-11-23T03:14:20.000Z", "error": None,
        }
    )  # fmt: skip


def write(folder: Path, jobs: list[dict[str, Any]], **values: Any) -> Path:
    """Write ``manifest.json`` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "version": 1, "tool": {"name": "flux-lora", "version": "0.1.0"}, "service": "https://api.wavespeed.ai",
        "sandbox": False, "created_at": "2026-11-23T03:14:15.123Z", "updated_at": "2026-11-23T03:20:00.000Z",
        "sources": [], "summary": {}, "jobs": jobs,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({**manifest, **values}), encoding="utf-8")
    return folder


def matrix(folder: Path, side: int = 256, seeds: int = 3) -> Path:
    """Three prompts, four stacks, some seeds: one flagged, one failed, one not saved, one waiting."""
    jobs = list(_matrix_jobs(folder, side, seeds))
    return write(folder, jobs)


def _matrix_jobs(folder: Path, side: int, seeds: int) -> Iterator[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for place, prompt in PLACES.items():
        for stack, loras in STACKS.items():
            for seed in range(1, seeds + 1):
                number += 1
                name = f"{place}/{stack}/{seed}"
                values = {"prompt": prompt, "loras": loras, "seed": seed}
                if number == 5:
                    yield failed(
                        name, "content_moderation: the prompt was refused by the service's moderation", **values
                    )
                    continue
                if number == 9:
                    yield job(name, state="submitted", **values)
                    continue
                entry = job(name, **values)
                picture = draw(number * 31 + seed, side, side)
                add_image(folder, entry, picture, f"{place}-{stack}-{seed}.png", nsfw=number == 7)
                if number == 14:
                    (folder / entry["outputs"][0]["file"]).unlink()
                    entry["outputs"][0].update(file=None, sha256=None, error="output_expired: the service deleted it")
                yield entry

"""Output folders for the gallery's tests: a manifest in the documented shape, and small pictures."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

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
    """A mosaic that depends on ``seed`` alone."""
    mosaic = Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192))
    out = io.BytesIO()
    mosaic.resize((width, height), Image.Resampling.NEAREST).convert(mode).save(out, kind, quality=88)
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
        "outputs": [], "attempts": 1, "cost_usd": "0.015", "error": None, "history": [], "axes": {},
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
    """Three prompts, four stacks, some seeds: one failed, one flagged, one waiting, one missing."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for place, stack, seed in itertools.product(PLACES, STACKS, range(1, seeds + 1)):
        axes, number = {"place": place, "stack": stack, "seed": str(seed)}, len(jobs) + 1
        entry = job(f"{place}/{stack}/{seed}", prompt=PLACES[place], loras=STACKS[stack], seed=seed, axes=axes)
        if number == 5:
            entry |= {"state": "failed", "error": "content_moderation: refused by the service's moderation"}
        elif number == 9:
            entry["state"] = "submitted"
        else:
            add_image(folder, entry, draw(number, side, side), f"{place}-{stack}-{seed}.png", nsfw=number == 7)
        if number == 14:
            (folder / entry["outputs"][0]["file"]).unlink()
            entry["outputs"][0].update(file=None, sha256=None, error="output_expired: the service deleted it")
        jobs.append(entry)
    return write(folder, jobs)


def one_image(folder: Path, entry: dict[str, Any], name: str = "x.png", **values: Any) -> Path:
    """A folder of one job with one image; ``values``: of the manifest."""
    add_image(folder, entry, draw(1, 16, 16), name)
    return write(folder, [entry], **values)


HOSTILE = {
    "script": "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>",
    "quotes": """"'`><svg onload="window.pwned = 3">${window.pwned = 4} {{constructor}} @@data@@ <!-- <script>""",
    "right-to-left": "\u202eevil\u202c שלום עולם \u2066hidden\u2069 مرحبا",
    "long": "lorem ipsum " * 834,
    "no-break": "W" * 10_000,
    "separators": "one\u2028two\u2029three\x00four\x1b[31m\ud800",
    "commands": "##vso[task.setvariable] ::error::x ##[group]",
}


def hostile_run(folder: Path) -> Path:
    """A run with every hostile text in every field that takes text."""
    jobs = []
    for number, (name, text) in enumerate(HOSTILE.items()):
        entry = job(
            f"{name}/{text[:80]}", prompt=text, preset=text[:200], seed=number, aliases=[text[:50]],
            loras=[{"path": text[:100], "scale": 1e-7}], size=text[:40], model=text[:60], other=text[:9], skip=True,
            axes={text[:40]: text[:300]}, history=[{"task_id": "t1", "error": text[:99], "cost_usd": "1"}],
        )  # fmt: skip
        add_image(folder, entry, draw(number, 32, 32), f"it's {number} #1%41 &quot; 東京 שלום.png")
        jobs.append(entry)
    jobs.append(failed("bad", HOSTILE["script"], prompt=HOSTILE["quotes"]))
    return write(folder, jobs, service=HOSTILE["script"], updated_at=HOSTILE["quotes"])

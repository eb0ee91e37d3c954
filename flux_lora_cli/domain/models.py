"""What each model takes, as data: one table for each model and API version.

Sources: the ordered API page ("Flux Lora", parameter table) for v2; WaveSpeed's
per-model v3 pages for v3. A ``None`` default means that the documentation names
none, so nothing is sent unless the user writes it.

A row is (type, default, minimum, maximum, choices, doc); sizes are limited per
dimension, in pixels.
"""

from __future__ import annotations

from typing import Any

Row = tuple[str, Any, float | None, float | None, tuple[str, ...], str]

#: The model that a preset without a ``model`` means: the one the tool was made for.
DEFAULT_MODEL = "wavespeed-ai/flux-dev-lora"

#: Highest seed that fits 31 bits: the limit of v3, and of the seeds that the tool draws.
SEED_31_BITS = 2_147_483_647

_PROMPT: Row = ("string", "", None, None, (), "What the image shows.")
_IMAGE: Row = ("image", "", None, None, (), "Input image: a URL, a data URI, or a file beside the preset.")
_NUM_IMAGES: Row = ("integer", 1, 1, 4, (), "Images per task.")
_LORAS: Row = ("loras", (), None, None, (), "LoRA models to apply: a list of path and scale (0 to 4).")

_V2: dict[str, Row] = {
    "prompt": _PROMPT,
    "image": _IMAGE,
    "strength": ("number", 0.6, 0.0, 1.0, (), "How far the result may leave the input image."),
    "size": ("size", "1024*1024", 512, 1536, (), "WIDTH*HEIGHT in pixels."),
    "num_inference_steps": ("integer", 28, 1, 50, (), "Denoising steps."),
    "guidance_scale": ("number", 5.0, 0.0, 10.0, (), "How closely the prompt is followed."),
    "num_images": _NUM_IMAGES,
    "seed": ("integer", -1, -1, 9_999_999_999, (), "The same seed gives the same image; -1 draws one."),
    "loras": _LORAS,
    "enable_safety_checker": ("boolean", True, None, None, (), "Let the service check for unsafe content."),
}

_V3: dict[str, Row] = {
    "prompt": _PROMPT,
    "image": ("image", None, *_IMAGE[2:]),
    "mask_image": ("url", None, None, None, (), "White where the input image may change: a URL or data URI."),
    "strength": ("number", 0.8, 0.0, 1.0, (), _V2["strength"][5]),
    "size": ("size", "1024*1024", 256, 1536, (), _V2["size"][5]),
    "num_inference_steps": _V2["num_inference_steps"],
    "guidance_scale": ("number", 3.5, 0.0, 20.0, (), _V2["guidance_scale"][5]),
    "num_images": _NUM_IMAGES,
    "seed": ("integer", -1, -1, SEED_31_BITS, (), _V2["seed"][5]),
    "loras": _LORAS,
    "output_format": ("string", None, None, None, ("jpeg", "png", "webp"), "File format of the images."),
    "enable_base64_output": ("boolean", None, None, None, (), "Images inside the answer, not as URLs."),
    "enable_sync_mode": ("boolean", None, None, None, (), "Answer the submit only when the images are made."),
}

_FEW_STEPS: Row = ("integer", 4, 1, 8, (), "Denoising steps.")

#: full id: (highest number of LoRAs, documented price in USD an image, tables per API version)
MODEL_TABLES: dict[str, tuple[int, str | None, dict[str, dict[str, Row]]]] = {
    "wavespeed-ai/flux-dev-lora": (5, "0.015", {"v2": _V2, "v3": _V3}),
    "wavespeed-ai/flux-dev-lora-ultra-fast": (4, None, {"v2": _V2, "v3": _V3}),
    "wavespeed-ai/flux-schnell-lora": (
        3,
        None,
        {
            "v2": {**_V2, "num_inference_steps": _FEW_STEPS},
            "v3": {**_V3, "num_inference_steps": _FEW_STEPS},
        },
    ),
    "wavespeed-ai/flux-krea-dev-lora": (4, None, {"v2": _V2, "v3": _V3}),
}

"""What the user hands in: presets under the options of a command; prompts, task IDs and job IDs from streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.commands.console import Console, reason, some
from flux_lora_cli.errors import FluxLoraError, NotFoundError, UsageError
from flux_lora_cli.text import printable, quoted

if TYPE_CHECKING:
    from flux_lora_cli.commands.options import GenerateOptions, JobsOptions, ModelsOptions, ServiceOptions
    from flux_lora_cli.presets.load import Loaded, LoadOptions
    from flux_lora_cli.service.models import Model, Models

#: Bytes of a list of IDs: a million of them.
_MAX_LIST = 64 << 20
_NO_LINE = "The command that wrote it probably failed: see what it said."


# ---- how presets are loaded ------------------------------------------------------------------


def load_options(options: ModelsOptions, service: ServiceOptions, **more: Any) -> LoadOptions:
    """How presets are loaded under these options; ``more``: as of ``request`` and ``selection``, and single fields.

    Raises as ``model_tables``.
    """
    from flux_lora_cli.presets.load import LoadOptions

    models = model_tables(options.models, service)
    unknown = options.allow_unknown_model
    return LoadOptions(models=models, allow_unknown_model=unknown, api_version=service.api_version, **more)


def load(
    files: Sequence[str], options: ModelsOptions, service: ServiceOptions, selected: dict[str, Any], **more: Any
) -> Loaded:
    """The jobs of presets. Raises as ``load_options`` and ``load_presets``."""
    from flux_lora_cli.presets.load import load_presets

    settings = load_options(options, service, **selected, **more)
    return load_presets(*files, options=settings, allow=options.allow_path or ())


def request(options: GenerateOptions) -> dict[str, Any]:
    """Fields of ``LoadOptions``: what the options say of requests; several images as ``images``. Raises UsageError."""
    names = ("strength", "size", "num_inference_steps", "guidance_scale", "num_images", "seed", "loras")
    named = {name: value for name in names if (value := getattr(options, name)) not in (None, [])}
    if options.image:
        named |= {"images": options.image} if len(options.image) > 1 else {"image": options.image[0]}
    if options.safety_checker and options.no_safety_checker:
        raise UsageError("--safety-checker and --no-safety-checker exclude each other")
    if options.safety_checker or options.no_safety_checker:
        named["enable_safety_checker"] = options.safety_checker
    return {"overrides": named, "set_overrides": dict(options.set_ or ()), "model": options.model}


def selection(
    files: Sequence[str], options: JobsOptions, only: Sequence[str] | None = None, only_file: str | None = None
) -> dict[str, Any]:
    """Fields of ``LoadOptions``: which jobs of these files. Raises UsageError, NotFoundError."""
    if files.count("-") + (only_file == "-") > 1:
        raise UsageError("standard input (-) can be read only once")
    return {
        "max_jobs": options.max_jobs,
        "expand": options.expand,
        "only": tuple(only or ()),
        "only_ids": None if only_file is None else read_lines("job ID", only_file),
        "stdin": b"".join(_stdin()) if "-" in files else b"",
    }


def model_tables(file: Path | None, service: ServiceOptions) -> Models:
    """The model tables at hand. Raises NotFoundError, PresetError."""
    from flux_lora_cli.service.models import load_models

    return load_models(os.environ, file, service.name)


def tell_notes(loaded: Loaded, console: Console) -> None:
    """Say what is probably not meant, and what is not checked."""
    for note in loaded.notes:
        console.note(note)
    warn_unchecked(loaded.models.values(), console)


def warn_unchecked(models: Iterable[Model], console: Console) -> None:
    """Say of each of these models that has no table what is not checked."""
    for model in models:
        if not model.checked:
            unchecked = "which parameters it takes, their ranges and the number of LoRAs are not checked"
            console.warn(f"no table has {model.id} on API {model.version}: {unchecked}", "unchecked_model")


# ---- standard input and lists ----------------------------------------------------------------


def read_lines(what: str, path: str = "-") -> list[str]:
    """The lines of a list, ``-`` for standard input, that are not empty.

    Raises NotFoundError: there is no such file, or no line; UsageError: it cannot be read, or is UTF-16.
    """
    from flux_lora_cli.folder.files import read_stream

    place = "standard input" if path == "-" else printable(path)
    try:
        lines = list(_lines(_stdin() if path == "-" else [read_stream(path, _MAX_LIST)], place))
    except FileNotFoundError:
        raise NotFoundError(f"{place}: no such file") from None
    except OSError as error:
        raise UsageError(f"{place}: {reason(error)}") from None
    if not lines:
        raise NotFoundError(f"no {what} {f'came in on {place}' if path == '-' else f'is in {place}'}", _NO_LINE)
    return lines


def check_ids(ids: Sequence[str]) -> list[str]:
    """``ids``, each once. Raises NotFoundError for what cannot be a task ID."""
    from flux_lora_cli.service.wire import is_task_id

    if wrong := [quoted(text) for text in ids if not is_task_id(text)]:
        raise NotFoundError(f"not a task ID: {some(wrong, 5)}", "Task IDs are what submit prints, one per line.")
    return list(dict.fromkeys(ids))


class TaskIds:
    """Task IDs from standard input, each as soon as its line is there, up to a tab.

    ``seen``: those so far; ``wrong``: what was not one.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.wrong: list[str] = []
        self._ids = self._read()

    def wait_for_first(self) -> Iterator[str]:
        """All IDs, once the first is there. Raises NotFoundError where there is none."""
        first = next(self._ids, None)
        if first is None:
            check_ids(self.wrong)
            raise NotFoundError("no task ID came in on standard input", _NO_LINE)
        return chain([first], self._ids)

    def read_on(self) -> None:
        """See what has come already; whoever is still writing notices that nobody reads, and names its tasks itself."""
        with suppress(OSError, ValueError, FluxLoraError):  # nothing there, or another thread is reading
            os.set_blocking(sys.stdin.fileno(), False)
            for _ in self._ids:
                pass

    def _read(self) -> Iterator[str]:
        from flux_lora_cli.service.wire import is_task_id

        for line in _lines(_stdin()):
            text = line.partition("\t")[0].strip()
            (self.seen if is_task_id(text) else self.wrong).append(text)
            if is_task_id(text):
                yield text


def _stdin() -> Iterator[bytes]:
    """Standard input past Python's buffer: a thread that waits inside it at the program's end makes Python abort."""
    return iter(lambda: os.read(sys.stdin.fileno(), 65_536), b"") if sys.stdin is not None else iter(())


def _lines(pieces: Iterable[bytes], place: str = "standard input") -> Iterator[str]:
    """The lines that are not empty, each as soon as it is there, without byte order marks. Raises UsageError: UTF-16.

    Bytes that are not UTF-8 become halves of surrogate pairs, which nothing is called that a line can name.
    """
    rest = b""
    for piece in chain(pieces, [b"\n"]):
        if b"\0" in piece or piece.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{place} is UTF-16, not UTF-8", "In PowerShell, write it with: Out-File -Encoding utf8")
        *whole, rest = (rest + piece.replace(b"\r", b"\n")).split(b"\n")
        for line in whole:
            if text := line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").strip():
                yield text

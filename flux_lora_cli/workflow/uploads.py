"""Local input images on their way to the service, each once a run."""

from __future__ import annotations

from collections.abc import Callable

from flux_lora_cli.errors import FluxLoraError, InsecureConnection, OutOfCredit, Redirected
from flux_lora_cli.workflow.calls import Calls
from flux_lora_cli.workflow.context import Context, Work


class Uploads:
    """Gives works the reference under which the service reads their input image."""

    def __init__(self, ctx: Context, calls: Calls) -> None:
        self._ctx = ctx
        self._calls = calls
        self._known: dict[str, str] = {}

    def bring(self, work: Work, then: Callable[[FluxLoraError | None], None]) -> None:
        """See to it that ``work.sent_input`` can be sent; then ``then``, with the error where it cannot."""
        image = work.image
        if image is None or work.sent_input is not None:
            then(None)
            return
        known = self._known.get(image.sha256)
        if known is not None:
            self._refer(work, known)
            then(None)
            return

        def uploaded(result: str | FluxLoraError) -> None:
            if isinstance(result, FluxLoraError):
                then(result)
                return
            self._known[image.sha256] = result
            self._refer(work, result)
            then(None)

        service, path, media_type = self._ctx.service, image.path, image.media_type
        self._calls.read(lambda: service.upload(path, media_type), uploaded)

    @staticmethod
    def _refer(work: Work, reference: str) -> None:
        work.sent_input = {**(work.record.input or {}), "image": reference}


def not_uploaded(ctx: Context, work: Work, error: FluxLoraError) -> None:
    """Note why a job could not be submitted for its image; a rerun tries again."""
    if ctx.submits_stopped:
        return  # why they stopped is told already
    if isinstance(error, (InsecureConnection, Redirected)):
        ctx.stop_calls(error)
    elif isinstance(error, OutOfCredit):
        ctx.stop_submits(error)
    else:
        error.message = f"{work.name}: its input image could not be uploaded: {error.message}"
        error.hint = "Nothing was charged for it: the same command tries again."
        ctx.note(error)

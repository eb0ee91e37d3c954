"""Every deliberate error, drawn as a tree; each knows its exit code.

A leaf is a decision that a caller makes. ``message`` says what happened and
where, ``hint`` what to do next; both are plain text for people.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process's exit code means. The one source for ``--help`` and the README's table."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "everything asked for is done"
    INTERNAL = 1, "an error of the program itself"
    USAGE = 2, "wrong usage: an option's value out of range, a bad template, …"
    NOT_FOUND = 3, "a name on the command line does not exist: file, folder, job, task"
    AUTH = 4, "the key is missing or was refused"
    SERVICE = 5, "the service cannot be reached, or answers nonsense"
    INCOMPLETE = 6, "the run ended, but some jobs failed or were lost, or images are missing"
    FOLDER = 7, "the output folder or its ledger cannot be used"
    BUDGET = 8, "budget or credit: refused before, or stopped during the run"
    DEADLINE = 9, "a deadline passed; tasks are still running, a rerun picks them up"
    PRESET = 10, "a preset is invalid, or expands to too many jobs; nothing was sent"
    BUSY = 11, "another batch is using the folder"
    NSFW = 12, "--fail-on-nsfw, and something was flagged"
    UNKNOWN = 13, "some submits have an unknown outcome and were held"
    INTERRUPTED = 130, "interrupted (Ctrl-C); state is saved"
    CLOSED_OUTPUT = 141, "standard output was closed; state is saved"
    TERMINATED = 143, "terminated (SIGTERM); state is saved"


class FluxLoraError(Exception):
    """Base of every deliberate error.

    Args:
        message: what happened, and to which file, line, job or task.
        hint: what the user can do about it; may be empty.

    Attributes:
        problems: one printable line for each, where there are several in one go.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    code: ClassVar[str] = "internal"
    problems: tuple[object, ...] = ()

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# ---- what the user said -------------------------------------------------------------------


class UsageError(FluxLoraError):
    """An option or argument cannot be meant."""

    exit_code = ExitCode.USAGE
    code = "usage"


class NotFoundError(FluxLoraError):
    """A file, folder, job or task named on the command line does not exist."""

    exit_code = ExitCode.NOT_FOUND
    code = "not_found"


class PresetError(FluxLoraError):
    """A preset is invalid."""

    exit_code = ExitCode.PRESET
    code = "preset_invalid"

    def __init__(self, message: str, hint: str = "", problems: tuple[object, ...] = ()) -> None:
        super().__init__(message, hint)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([self.message, *map(str, self.problems)])


# ---- key, budget --------------------------------------------------------------------------


class AuthError(FluxLoraError):
    """The key is missing or was refused (401, 403)."""

    exit_code = ExitCode.AUTH
    code = "auth"


class MissingKey(AuthError):
    """There is no key to send."""

    code = "key_missing"


class KeyRefused(AuthError):
    """The service answered 401 or 403."""

    code = "key_refused"


class BudgetError(FluxLoraError):
    """``--max-cost`` does not allow it, or the price is not known."""

    exit_code = ExitCode.BUDGET
    code = "budget"


class OutOfCredit(BudgetError):
    """The account has no credit left (402, or 400 with the words)."""

    code = "out_of_credit"


# ---- the service --------------------------------------------------------------------------


class ServiceError(FluxLoraError):
    """The service could not be reached, or its answer is of no use."""

    exit_code = ExitCode.SERVICE
    code = "service"


class NeverSent(ServiceError):
    """No byte of the request left: name look-up, refused connection, connect time-out. Safe to repeat."""

    code = "never_sent"


class InsecureConnection(ServiceError):
    """TLS verification failed. Never sent, and no use repeating."""

    code = "tls"


class Uncertain(ServiceError):
    """The request may have arrived: reset, time-out, 408, 5xx. A GET is repeated; a submit is unknown.

    ``timed_out`` says that it was waited for until the end of its time; ``retry_after``, in seconds, that the
    service asked for so much patience (a 503 may).
    """

    code = "uncertain"
    timed_out: bool = False
    retry_after: float | None = None


class BadAnswer(ServiceError):
    """The answer cannot be read as what the API documents. A submit that got it is unknown."""

    code = "bad_answer"


class Redirected(ServiceError):
    """An API call was redirected. Never followed, for the key and the money go with it."""

    code = "redirected"


class RateLimited(ServiceError):
    """429: refused, nothing was charged. ``retry_after`` in seconds, None where the service did not say."""

    code = "rate_limited"

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Rejected(ServiceError):
    """The service refused this request (400, 404, 422 …): this job fails, nothing was charged."""

    exit_code = ExitCode.INCOMPLETE
    code = "rejected"


class TaskNotFound(ServiceError):
    """The service does not know a task id (404 on a look)."""

    exit_code = ExitCode.NOT_FOUND
    code = "task_not_found"


# ---- images -------------------------------------------------------------------------------


class ImageError(FluxLoraError):
    """An output could not be saved as an image."""

    exit_code = ExitCode.INCOMPLETE
    code = "image"


class BadImage(ImageError):
    """The bytes are no whole image: cut, wrong type, too large, HTML in its place. Worth another try."""

    code = "bad_image"


class OutputGone(ImageError):
    """The output's URL answers 403, 404 or 410."""

    code = "output_expired"


class RefusedUrl(ImageError):
    """The output's URL (or a redirect of it) is of a kind that is never fetched. No use repeating."""

    code = "url_refused"


# ---- the folder ---------------------------------------------------------------------------


class FolderError(FluxLoraError):
    """The output folder or its ledger cannot be used."""

    exit_code = ExitCode.FOLDER
    code = "folder"


class DiskFull(FolderError):
    """No space is left."""

    code = "disk_full"


class LedgerDamaged(FolderError):
    """The ledger cannot be read, or contradicts itself."""

    code = "ledger_damaged"


class LedgerNewer(FolderError):
    """The ledger was written by a later version of the tool."""

    code = "ledger_newer"


class ManifestDamaged(FolderError):
    """The manifest cannot be read, where it is needed."""

    code = "manifest_damaged"


class OtherService(FolderError):
    """The folder belongs to another service than the one asked for."""

    code = "other_service"


class FolderBusy(FluxLoraError):
    """Another batch holds the folder."""

    exit_code = ExitCode.BUSY
    code = "folder_busy"


# ---- how a run ends -----------------------------------------------------------------------


class DeadlineError(FluxLoraError):
    """A deadline passed while tasks were still running."""

    exit_code = ExitCode.DEADLINE
    code = "deadline"


class TasksOverdue(DeadlineError):
    """Tasks were not finished in the time that each of them has; one error for all of them.

    Args:
        after: that time, in words.
    """

    def __init__(self, after: str) -> None:
        super().__init__("", "They may still finish, and are paid for: the same command picks them up.")
        self._after = after
        self._tasks = 0

    def one_more(self) -> None:
        """Count a task."""
        self._tasks += 1
        those = "1 task was" if self._tasks == 1 else f"{self._tasks} tasks were"
        their = "its" if self._tasks == 1 else "their"
        self.message = f"{those} not finished {self._after} after {their} submit"
        self.args = (self.message,)


class HeldError(FluxLoraError):
    """Submits of unknown outcome were held."""

    exit_code = ExitCode.UNKNOWN
    code = "held"


class NsfwFlagged(FluxLoraError):
    """``--fail-on-nsfw``, and the service flagged an image."""

    exit_code = ExitCode.NSFW
    code = "nsfw"

    @classmethod
    def counted(cls, images: int) -> NsfwFlagged:
        """The error of a run with so many flagged images."""
        flagged = "1 image was" if images == 1 else f"{images} images were"
        return cls(f"{flagged} flagged NSFW, and --fail-on-nsfw was given")


class Interrupted(FluxLoraError):
    """Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
    code = "interrupted"


class Terminated(FluxLoraError):
    """SIGTERM or SIGHUP."""

    exit_code = ExitCode.TERMINATED
    code = "terminated"


class OutputClosed(FluxLoraError):
    """Whoever read standard output went away."""

    exit_code = ExitCode.CLOSED_OUTPUT
    code = "output_closed"

"""Every deliberate error, drawn as a tree; each knows its exit code and what the user may do next.

A leaf is a decision that a caller makes. ``message`` says what happened and where, ``hint`` what to do next in
words, ``advice`` the same as a value that programs (and a test of every combination) can check.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the exit code of the process means. The one source for ``--help`` and the README's table."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "everything asked for is done"
    INTERNAL = 1, "a bug in the program"
    USAGE = 2, "wrong usage: an option's value is out of range, a template is invalid, …"
    NOT_FOUND = 3, "a name on the command line does not exist: file, folder, job, task"
    AUTH = 4, "the API key is missing or was refused"
    SERVICE = 5, "the service cannot be reached, or its answers make no sense"
    INCOMPLETE = 6, "the run ended, but some jobs failed or were lost, or some images are missing"
    FOLDER = 7, "the output folder or its ledger cannot be used"
    BUDGET = 8, "budget or credit: refused before the run, or stopped during it"
    DEADLINE = 9, "a deadline passed; tasks are still running, and a rerun picks them up"
    PRESET = 10, "a preset is invalid or expands to too many jobs; nothing was sent"
    BUSY = 11, "another batch is using the folder"
    NSFW = 12, "--fail-on-nsfw was given, and an image was flagged"
    UNKNOWN = 13, "some submissions have an unknown outcome and were held"
    INTERRUPTED = 130, "interrupted (Ctrl-C); state is saved"
    CLOSED_OUTPUT = 141, "standard output was closed; state is saved"
    TERMINATED = 143, "terminated (SIGTERM); state is saved"


class Advice(str, Enum):
    """What the user may do after an error. None of these pays for something that may still arrive."""

    FIX = "fix"  # correct what the message names, then run the command again
    RERUN = "rerun"  # the same command continues where this one stopped
    WAIT = "wait"  # collect the tasks named in the message with `flux-lora wait`; a rerun would buy again
    DECIDE = "decide"  # look at the candidates; adopt one, or resubmit on purpose
    REPORT = "report"  # a bug


class FluxLoraError(Exception):
    """Base of every deliberate error.

    Args:
        message: what happened, and to which file, line, job or task.
        hint: what the user can do about it, in words; may be empty.
        advice: the same as a value; the class's own where it is not given.
        tasks: ``(job, task id)`` of paid tasks that are not collected yet; the job is None where unknown.

    Attributes:
        problems: one printable line each, where there are several in one go.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    code: ClassVar[str] = "internal"
    default_advice: ClassVar[Advice] = Advice.REPORT
    problems: tuple[object, ...] = ()

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        advice: Advice | None = None,
        tasks: Sequence[tuple[str | None, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.advice = advice or self.default_advice
        self.tasks = tuple(tasks)


# ---- what the user said -------------------------------------------------------------------


class UsageError(FluxLoraError):
    """An option or argument cannot be meant."""

    exit_code = ExitCode.USAGE
    code = "usage"
    default_advice = Advice.FIX


class NotFoundError(FluxLoraError):
    """A file, folder, job or task named on the command line does not exist."""

    exit_code = ExitCode.NOT_FOUND
    code = "not_found"
    default_advice = Advice.FIX


class PresetError(FluxLoraError):
    """A preset is invalid. ``problems`` holds every problem of every file."""

    exit_code = ExitCode.PRESET
    code = "preset_invalid"
    default_advice = Advice.FIX

    def __init__(self, message: str, hint: str = "", problems: Sequence[object] = ()) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *map(str, self.problems)])


# ---- key, budget --------------------------------------------------------------------------


class AuthError(FluxLoraError):
    """The key is missing or was refused."""

    exit_code = ExitCode.AUTH
    code = "auth"
    default_advice = Advice.FIX


class MissingKey(AuthError):
    """There is no key to send."""

    code = "key_missing"


class KeyRefused(AuthError):
    """The service itself answered 401 or 403 (a firewall's page for one request is ``Rejected``)."""

    code = "key_refused"


class BudgetError(FluxLoraError):
    """A limit does not allow it, or the price is not known."""

    exit_code = ExitCode.BUDGET
    code = "budget"
    default_advice = Advice.FIX


class OutOfCredit(BudgetError):
    """The account has no credit left (402, or 400 with the words)."""

    code = "out_of_credit"
    default_advice = Advice.RERUN


# ---- the service --------------------------------------------------------------------------


class ServiceError(FluxLoraError):
    """The service could not be reached, or its answer is of no use."""

    exit_code = ExitCode.SERVICE
    code = "service"
    default_advice = Advice.RERUN


class NeverSent(ServiceError):
    """No byte of the request left: name look-up, refused connection, connect time-out. Safe to repeat."""

    code = "never_sent"


class InsecureConnection(ServiceError):
    """TLS verification failed. Never sent, and no use repeating."""

    code = "tls"
    default_advice = Advice.FIX


class ProxyFailed(ServiceError):
    """The proxy named in the environment is malformed, cannot be reached or refused; nothing was sent."""

    code = "proxy"
    default_advice = Advice.FIX


class Uncertain(ServiceError):
    """The request may have arrived: reset, time-out, 408, 5xx. A GET is repeated; a submission is unknown.

    Attributes:
        timed_out: it was waited for until the end of its time.
        retry_after: seconds that the service asked to wait (a 503 may); None where it did not say.
    """

    code = "uncertain"

    def __init__(
        self, message: str, hint: str = "", *, timed_out: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.timed_out = timed_out
        self.retry_after = retry_after


class BadAnswer(ServiceError):
    """The answer cannot be read as what the API documents. A submission that got it is unknown."""

    code = "bad_answer"


class Redirected(ServiceError):
    """An API call was redirected. Never followed, for the key and the money go with it."""

    code = "redirected"
    default_advice = Advice.FIX


class RateLimited(ServiceError):
    """429 or 425: refused, nothing was charged.

    Attributes:
        retry_after: seconds, None where the service did not say.
    """

    code = "rate_limited"

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Rejected(ServiceError):
    """The service (or a firewall before it) refused this one request: this job fails, nothing was charged."""

    exit_code = ExitCode.INCOMPLETE
    code = "rejected"
    default_advice = Advice.FIX


class TaskNotFound(ServiceError):
    """The service does not know a task ID (404 on a poll)."""

    exit_code = ExitCode.NOT_FOUND
    code = "task_not_found"
    default_advice = Advice.FIX


# ---- images -------------------------------------------------------------------------------


class ImageError(FluxLoraError):
    """An output could not be saved as an image."""

    exit_code = ExitCode.INCOMPLETE
    code = "image"
    default_advice = Advice.RERUN


class BadImage(ImageError):
    """The bytes are not a whole image: cut, text in its place, too large. Worth another try."""

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
    default_advice = Advice.FIX


class DiskFull(FolderError):
    """No space is left."""

    code = "disk_full"


class FolderMoved(FolderError):
    """The folder was renamed, deleted or unmounted while it was in use."""

    code = "folder_moved"


class LedgerDamaged(FolderError):
    """The ledger cannot be read, contradicts itself, or holds what this program did not write."""

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


class OtherFolder(FolderError):
    """Ledger and manifest belong to different folders, or the images to none of them."""

    code = "other_folder"


class FolderBusy(FluxLoraError):
    """Another batch is using the folder."""

    exit_code = ExitCode.BUSY
    code = "folder_busy"
    default_advice = Advice.RERUN


# ---- how a run ends -----------------------------------------------------------------------


class Incomplete(FluxLoraError):
    """Jobs failed or were lost, or images are missing."""

    exit_code = ExitCode.INCOMPLETE
    code = "incomplete"
    default_advice = Advice.RERUN


class DeadlineError(FluxLoraError):
    """A deadline passed while tasks were still running."""

    exit_code = ExitCode.DEADLINE
    code = "deadline"
    default_advice = Advice.RERUN


class HeldError(FluxLoraError):
    """Submissions of unknown outcome were held."""

    exit_code = ExitCode.UNKNOWN
    code = "held"
    default_advice = Advice.DECIDE


class NsfwFlagged(FluxLoraError):
    """``--fail-on-nsfw``, and the service flagged an image."""

    exit_code = ExitCode.NSFW
    code = "nsfw"
    default_advice = Advice.FIX


class Interrupted(FluxLoraError):
    """Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
    code = "interrupted"
    default_advice = Advice.RERUN


class Terminated(FluxLoraError):
    """SIGTERM or SIGHUP."""

    exit_code = ExitCode.TERMINATED
    code = "terminated"
    default_advice = Advice.RERUN


class OutputClosed(FluxLoraError):
    """Whoever read standard output went away."""

    exit_code = ExitCode.CLOSED_OUTPUT
    code = "output_closed"
    default_advice = Advice.RERUN


#: Of several reasons for an exit code the first in this order is reported. [CONTRACT: exit codes]
PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.CLOSED_OUTPUT,
    ExitCode.INTERNAL,
    ExitCode.FOLDER,
    ExitCode.BUSY,
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
    ExitCode.PRESET,
    ExitCode.AUTH,
    ExitCode.BUDGET,
    ExitCode.UNKNOWN,
    ExitCode.SERVICE,
    ExitCode.DEADLINE,
    ExitCode.INCOMPLETE,
    ExitCode.NSFW,
)

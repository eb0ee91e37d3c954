"""Every deliberate error, drawn as a tree; each knows its exit code and what the user may do next.

A leaf is a decision that a caller makes. ``message`` says what happened and where, ``hint`` what to do next in
words, ``advice`` the same as a value that programs (and a test of every combination) can check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the exit code of the process means. The one source of the README's table."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> ExitCode:
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


#: Of several reasons for an exit code the first in this order is reported. [CONTRACT: exit codes]
PRECEDENCE = tuple(ExitCode(code) for code in (130, 143, 141, 1, 7, 11, 2, 3, 10, 4, 8, 13, 5, 9, 6, 12))


class Advice(str, Enum):
    """What the user may do after an error. None of these pays for something that may still arrive."""

    FIX = "fix"  # correct what the message names, then run the command again
    RERUN = "rerun"  # the same command continues where this one stopped
    WAIT = "wait"  # collect the tasks named in the message with `flux-lora wait`; a rerun would buy again
    DECIDE = "decide"  # look at the candidates; adopt one, or resubmit on purpose
    REPORT = "report"  # a bug


class FluxLoraError(Exception):
    """Base of every deliberate error. A leaf names its exit code and advice, or inherits them; its code is its name.

    Args:
        message: what happened, and to which file, line, job or task.
        hint: what the user can do about it, in words; the class's own where it is empty.
        problems: one printable line each, where there are several in one go.
        retry_after: seconds that the service asked to wait; None where it did not say.
        timed_out: the answer was waited for until the end of its time.

    Attributes:
        advice: the hint as a value.
        tasks: ``(job, task id)`` of paid tasks that are not collected yet; the job is None where unknown.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    code: ClassVar[str] = "internal"
    advice = Advice.REPORT
    hint = ""
    tasks: Sequence[tuple[str | None, str]] = ()

    def __init_subclass__(
        cls, code: str | None = None, exit_code: ExitCode | None = None, advice: Advice | None = None
    ) -> None:
        cls.code = code or re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()
        cls.exit_code = exit_code or cls.exit_code
        cls.advice = advice or cls.advice

    def __init__(
        self,
        message: str,
        hint: str = "",
        problems: Sequence[object] = (),
        *,
        retry_after: float | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.problems = message, hint or self.hint, problems
        self.retry_after, self.timed_out = retry_after, timed_out

    def __str__(self) -> str:
        return "\n".join([self.message, *map(str, self.problems)])


# ---- what the user said -------------------------------------------------------------------


class UsageError(FluxLoraError, exit_code=ExitCode.USAGE, advice=Advice.FIX):
    """An option or argument cannot be meant."""

    hint = "Add --help to see what the command takes."


class NotFoundError(FluxLoraError, exit_code=ExitCode.NOT_FOUND, advice=Advice.FIX):
    """A file, folder, job or task named on the command line does not exist."""

    hint = "Check the spelling and, for a file, the path."


class PresetError(FluxLoraError, code="preset_invalid", exit_code=ExitCode.PRESET, advice=Advice.FIX):
    """A preset is invalid. ``problems`` holds every problem of every file."""

    hint = "Correct what is named above, then run the command again."


# ---- key, budget --------------------------------------------------------------------------


class AuthError(FluxLoraError, exit_code=ExitCode.AUTH, advice=Advice.FIX):
    """The key is missing or was refused."""


class MissingKey(AuthError, code="key_missing"):
    """There is no key to send."""


class KeyRefused(AuthError):
    """401, or 403 in the service's own words (a firewall's page for one request is ``Rejected``)."""


class BudgetError(FluxLoraError, exit_code=ExitCode.BUDGET, advice=Advice.FIX):
    """A limit does not allow it, or the price is not known."""


class OutOfCredit(BudgetError, advice=Advice.RERUN):
    """The account has no credit left (402, or 400 with the words)."""


# ---- the service --------------------------------------------------------------------------


class ServiceError(FluxLoraError, exit_code=ExitCode.SERVICE, advice=Advice.RERUN):
    """The service could not be reached, or its answer is of no use."""


class NeverSent(ServiceError):
    """No byte of the request left: name look-up, refused connection, connect time-out. Safe to repeat."""


class InsecureConnection(ServiceError, code="tls", advice=Advice.FIX):
    """TLS verification failed. Never sent, and no use repeating."""


class ProxyFailed(ServiceError, code="proxy", advice=Advice.FIX):
    """The proxy named in the environment is malformed, cannot be reached or refused; nothing was sent."""


class Uncertain(ServiceError):
    """The request may have arrived: reset, time-out, 408, 5xx. A GET is repeated; a submission is unknown."""


class BadAnswer(ServiceError):
    """The answer cannot be read as what the API documents. A submission that got it is unknown."""


class AnswerTooLong(BadAnswer):
    """It is longer than any that the API documents: a list may do better in smaller pages."""


class Redirected(ServiceError, advice=Advice.FIX):
    """An API call was redirected. Never followed, for the key and the money go with it."""


class RateLimited(ServiceError):
    """429 or 425: refused, nothing was charged."""


class Rejected(ServiceError, exit_code=ExitCode.INCOMPLETE, advice=Advice.FIX):
    """The service (or a firewall before it) refused this one request: this job fails, nothing was charged."""


class TaskNotFound(ServiceError, exit_code=ExitCode.NOT_FOUND, advice=Advice.FIX):
    """The service does not know a task ID (404 on a poll)."""


# ---- images -------------------------------------------------------------------------------


class ImageError(FluxLoraError, exit_code=ExitCode.INCOMPLETE, advice=Advice.RERUN):
    """An output could not be saved as an image."""


class BadImage(ImageError):
    """The bytes are not a whole image: cut, text in its place, too large. Worth another try."""


class OutputGone(ImageError, code="output_expired"):
    """The output's URL answers 403, 404 or 410."""


class RefusedUrl(ImageError, code="url_refused"):
    """The output's URL (or a redirect of it) is of a kind that is never fetched. No use repeating."""


# ---- the folder ---------------------------------------------------------------------------


class FolderError(FluxLoraError, exit_code=ExitCode.FOLDER, advice=Advice.FIX):
    """The output folder or its ledger cannot be used."""


class DiskFull(FolderError):
    """No space is left."""


class FolderMoved(FolderError):
    """The folder was renamed, deleted or unmounted while it was in use."""


class LedgerDamaged(FolderError):
    """The ledger cannot be read, contradicts itself, or holds what this program did not write."""


class LedgerNewer(FolderError):
    """The ledger was written by a later version of the tool."""


class ManifestDamaged(FolderError):
    """The manifest cannot be read, where it is needed."""


class OtherService(FolderError):
    """The folder belongs to another service than the one asked for."""


class OtherFolder(FolderError):
    """Ledger and manifest belong to different folders, or the images to none of them."""


class FolderBusy(FluxLoraError, exit_code=ExitCode.BUSY, advice=Advice.RERUN):
    """Another batch is using the folder."""


# ---- how a run ends -----------------------------------------------------------------------


class Incomplete(FluxLoraError, exit_code=ExitCode.INCOMPLETE, advice=Advice.RERUN):
    """Jobs failed or were lost, or images are missing."""


class DeadlineError(FluxLoraError, exit_code=ExitCode.DEADLINE, advice=Advice.RERUN):
    """A deadline passed while tasks were still running."""


class HeldError(FluxLoraError, exit_code=ExitCode.UNKNOWN, advice=Advice.DECIDE):
    """Submissions of unknown outcome were held."""


class NsfwFlagged(FluxLoraError, code="nsfw", exit_code=ExitCode.NSFW, advice=Advice.FIX):
    """``--fail-on-nsfw``, and the service flagged an image."""


class Interrupted(FluxLoraError, exit_code=ExitCode.INTERRUPTED, advice=Advice.RERUN):
    """Ctrl-C."""


class Terminated(FluxLoraError, exit_code=ExitCode.TERMINATED, advice=Advice.RERUN):
    """SIGTERM, SIGHUP or the like."""


class OutputClosed(FluxLoraError, exit_code=ExitCode.CLOSED_OUTPUT, advice=Advice.RERUN):
    """Whoever read standard output went away."""

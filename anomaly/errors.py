"""One error hierarchy. A message says what happened, where, and what to do."""

from collections.abc import Mapping
from typing import Any

from anomaly.names import masked, one_line


class AnomalyError(Exception):
    """Root of every error this package raises on purpose; the command line prints it without a traceback.

    Each argument is one line of the message.
    """

    def __str__(self) -> str:
        """The message, escaped and without passwords, so that any terminal, log and store takes it."""
        return "\n".join(one_line(masked(str(line))) for line in self.args)


class SpecError(AnomalyError):
    """The spec is not usable: an unknown key, a bad value, a folder that is not there."""


class DataError(AnomalyError):
    """Records cannot be used as a whole: wrong layout, missing column, nothing to read."""


class UnclearError(DataError):
    """Tables can be read in more than one way, and a person has to say which.

    choices: what may be meant, in words, by the settings of the spec's [input] that say it
    """

    def __init__(self, *lines: str, choices: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(*lines)
        self.choices = choices


class RecordError(AnomalyError):
    """One record (a picture, a row) cannot be read. It is counted and kept aside; the run goes on."""


class WeightsError(AnomalyError):
    """Weights cannot be found or do not fit the network."""


class ExportError(AnomalyError):
    """The exported graph does not decide as the PyTorch detector does, or cannot be built."""


class BundleError(AnomalyError):
    """A bundle is damaged, hostile, unsigned where a key is set, or not made for this use."""


class UnreachableError(BundleError):
    """A bundle cannot be had just now (network, share): nothing is said against the bundle, and it is tried again."""


class ProviderError(AnomalyError):
    """The execution provider that was forced is not there."""


class SourceError(AnomalyError):
    """A live source is away, with the reason in words; it is tried again."""


class StoreError(AnomalyError):
    """The event store cannot be opened or written."""


class NotPossibleError(StoreError):
    """What is asked does not fit how an alarm stands now: nothing was done, and asking again does not help."""


class LineTakenError(StoreError):
    """Another process monitors this line with this store."""


class SinkError(AnomalyError):
    """An alert could not be delivered; it stays in the outbox and is tried again.

    permanent: it will never be taken as it is (refused as malformed, say): not tried again, kept as a dead letter
    retry_after_s: seconds that the receiver asks to be left alone, None when it does not say
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


def in_words(error: BaseException) -> str:
    """What an error says, as one line without passwords. One that is not of ours is led by its type: its words alone may tell nothing.

    >>> in_words(KeyError("a")), in_words(DataError("a.csv: gone"))
    ("KeyError: 'a'", 'a.csv: gone')
    """
    try:
        lines = str(error).splitlines()
    except Exception:  # of a library, whose error cannot even say what it is
        lines = []
    named = isinstance(error, AnomalyError) and lines
    return one_line(masked(": ".join([*([] if named else [type(error).__name__]), *lines[:1]])))[:500]

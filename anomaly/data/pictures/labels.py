"""What people call a good part and a defective one: one list of words for folders and for the labels of manifests."""

from __future__ import annotations

from anomaly.errors import DataError

GOOD_WORDS = frozenset({
    "good", "ok", "okay", "normal", "nominal", "pass", "passed", "accept", "accepted", "healthy", "intact", "fine", "no defect",
    "defect free", "io", "i.o.", "i. o.", "gut", "negative", "false",
})  # fmt: skip
BAD_WORDS = frozenset({"true", "positive"})  # of a column that says "defective?": no name for a kind of defect
_NO_LABEL = frozenset({
    "", "nan", "none", "null", "nil", "n/a", "na", "#n/a", "<na>", "nat", "?", "-", "unknown", "unlabeled", "unlabelled", "todo",
    "tbd", "yes", "no", "y", "n", "t", "f",
})  # fmt: skip
DEFECT = "defect"  # the kind of a defect whose label only says that it is one


def is_good(name: str) -> bool:
    """Whether a folder of this name, in any case, holds good parts.

    >>> [is_good(name) for name in ("Good", "OK", "0", "defect_free", "scratch")]
    [True, True, True, True, False]
    """
    words = _words(name)
    return words in GOOD_WORDS or words == "0"


def kind_of_label(label: str) -> str | None:
    """What a manifest's label says: None for a good part, else the defect's kind.

    Words for good and 0 (also 0.0 and False) are good parts; 1 and True are a defect of no named kind; any other word names the kind.
    Raises DataError for what says neither: a blank, another number, yes and no.

    >>> [kind_of_label(label) for label in ("OK", "0.0", "False", "scratch", "1", "NG")]
    [None, None, None, 'scratch', 'defect', 'NG']
    """
    words = _words(label)
    try:
        number: float | None = float(label)
    except ValueError:
        number = None
    if words in GOOD_WORDS or number == 0:
        return None
    if words in BAD_WORDS or number == 1:
        return DEFECT
    if words in _NO_LABEL or number is not None or not any(letter.isalpha() for letter in words):
        raise DataError(f"label {label.strip()!r} says neither good nor defective; write good (or ok, pass, 0), or the kind of the defect")
    return label.strip()


def _words(text: str) -> str:
    return " ".join(text.strip().lower().replace("_", " ").replace("-", " ").split())

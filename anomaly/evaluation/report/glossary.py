"""What the words of reports mean: the one source of the glossary, which every report carries and docs/reference/glossary.md shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Term:
    """A word with its meaning. `also`: other ways it is written, as regular expressions; each links to it."""

    name: str
    text: str
    also: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Where it stands in a page.

        >>> Term("p-value", "").anchor
        'word-p-value'
        """
        return "word-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


GLOSSARY: tuple[Term, ...] = (
    Term(
        "adaptation",
        "A short training of the network on your own normal records. It is kept only where it finds made-up faults clearly better.",
        ("adaptations?",),
    ),
    Term(
        "alarm",
        "What people are told. The alarm rules make alarms out of flagged records: many flagged records in a row are one alarm.",
        ("alarms?",),
    ),
    Term(
        "alarm rules",
        "How long records must be flagged before an alarm opens, and how long they must be calm before it closes. Set under [alarm] in the "
        "spec.",
    ),
    Term(
        "AUPRO",
        "How well the heat-map covers each marked fault, large and small ones alike, while at most 30 % of the good places are covered "
        "too. 1 is perfect.",
        ("AUPRO",),
    ),
    Term(
        "AUROC",
        "Take one faulty and one normal record at random: how often does the faulty one get the higher score? 1 is always, 0.5 is no "
        "better than a coin. It does not depend on the threshold.",
        ("AUROC", "ROC-AUC"),
    ),
    Term(
        "average precision",
        "Look through all records from the highest score down: how many of those seen so far are really faulty, on average over the "
        "faults. 1 is perfect.",
        ("average precision", "PR-AUC"),
    ),
    Term("bank", "Patches of good parts, kept by the detector. Each patch of a new picture is compared with them.", ("banks?",)),
    Term(
        "budget",
        "How many false alarms, or how many flagged good parts, you are willing to have. You set it in the spec. The threshold follows "
        "from it.",
        ("budgets?",),
    ),
    Term(
        "bundle",
        "The one file that a fit writes: detector, threshold, alarm rules and where it all comes from. It runs beside the line.",
        ("bundles?",),
    ),
    Term(
        "calibration",
        "Turning a score into a p-value, by comparing it with the scores of held-out normal records.",
        ("calibration", "calibrated"),
    ),
    Term("challenger", "A new detector that is watched beside the one in use. It raises no alarms.", ("challengers?",)),
    Term("champion", "The detector in use on a line.", ("champions?",)),
    Term(
        "coreset",
        "A small selection of what the normal pictures look like, spread so that every look is near to one of them. New pictures are "
        "compared with it.",
        ("coresets?",),
    ),
    Term(
        "deadband",
        "Once an alarm is open, a record counts as calm only well clear of the threshold: its p-value must be so many times as large. "
        "So an alarm does not flicker.",
        ("deadband",),
    ),
    Term(
        "detection delay",
        "The time from the first faulty row of a fault to the first one that is flagged.",
        ("detection delays?",),
    ),
    Term(
        "exact interval",
        "A 95 % interval of a share that stays right for few records and for none or all of them: 0 of 30 seen means at most 12 in 100.",
    ),
    Term(
        "F1",
        "One figure for precision and recall together (their harmonic mean). 1 is perfect.",
        ("F1",),
    ),
    Term(
        "false alarm",
        "An alarm, after the alarm rules, that opens while nothing is wrong. A single normal record beyond the threshold is no false "
        "alarm: it is a flagged record.",
        ("false alarms?",),
    ),
    Term(
        "flagged",
        "A record whose p-value is at or below the threshold. Whether it becomes an alarm is decided by the alarm rules.",
        ("flagged",),
    ),
    Term("graph", "The detector as a file that runs without Python's training packages (ONNX).", ("ONNX",)),
    Term("heat-map", "Where in a picture something is unusual: the brighter, the more so.", ("heat-maps?",)),
    Term(
        "held out",
        "Judged by a detector that has not seen the record when it learnt. Only such scores say how new records will be judged.",
        ("held[- ]out",),
    ),
    Term(
        "interval (95 %)",
        "The range in which the true figure lies in 19 cases of 20. It is wide where few records were seen.",
        ("95 % interval", "95 %"),
    ),
    Term(
        "made-up fault",
        "A fault drawn by the computer on a normal record: spots, scratches and dents on pictures; steps, spikes and drifts on "
        "readings. It tells how well faults are found before a real one is known.",
        ("made-up (?:faults?|marks?|defects?)",),
    ),
    Term(
        "made-up faults of readings",
        "Put on one sensor for part of a window. spike, step, drift, noise: so much is added. stuck: the reading stays where it was. "
        "decoupled: right values in another order, so that sensors no longer go together. mirrored: backwards in time. shifted: pushed "
        "in time. flattened: peaks are cut. wrong moment: the curve of another window. The last four leave mean and spread as they were.",
        ("decoupled", "mirrored", "shifted", "flattened", "wrong moment", "stuck"),
    ),
    Term("missed", "A labelled fault of which nothing was flagged.", ("missed",)),
    Term(
        "normal", "A record of a good part or of a machine that runs as it should. Detectors learn from normal records alone.", ("normals",)
    ),
    Term(
        "off-delay",
        "How long everything must be calm before an alarm closes.",
        ("off-delay",),
    ),
    Term("on-delay", "How long records must stay flagged before an alarm opens.", ("on-delay",)),
    Term(
        "p-value",
        "How unusual a record is: the share of normal records that look at least as odd. 0.01 means one normal record in 100. Small is "
        "unusual.",
        ("p-values?",),
    ),
    Term(
        "parity",
        "The exported graph was compared with the detector as it was fitted, on random and on real records: both must decide alike.",
        ("parity",),
    ),
    Term("precision", "Of the flagged records, the share that is really faulty.", ("precision",)),
    Term("recall", "Of the faulty records, the share that is flagged.", ("recall",)),
    Term(
        "score",
        "How far a record is from the normal ones. It has no unit and may be negative; only its distance to the threshold counts.",
        ("scores?",),
    ),
    Term(
        "share (of a sensor)",
        "How much of a window's score comes from this sensor. "
        "In reports and alarms all shares add up to 100 %; in Python they add up to the score.",
        (),
    ),
    Term(
        "suspect",
        "A record among the normals you gave that stands out from the rest. It may be a fault that nobody marked: have a look at it.",
        ("suspects?",),
    ),
    Term("threshold", "The score from which on a record is flagged. It follows from the budget.", ("thresholds?",)),
    Term(
        "transfer",
        "Starting from another line or machine instead of from nothing. It is kept only where it clearly helps.",
        ("transfer",),
    ),
    Term("variant", "The same detector in other arithmetic (8 or 16 bits), which some processors run faster.", ("variants?",)),
    Term("view", "One way of looking at a record. Where there are several, the one that stands out most speaks.", ("views?",)),
    Term(
        "VUS",
        "The AUROC (VUS-ROC) or the average precision (VUS-PR) of readings, averaged over how exactly the begin and the end of a fault "
        "are labelled. 1 is perfect.",
        ("VUS(?:-ROC|-PR)?",),
    ),
    Term("window", "So many rows of readings in a row, which are judged together.", ("windows?",)),
)


@cache
def _pattern() -> tuple[re.Pattern[str], dict[str, Term]]:
    """What links to the glossary, the longest first, with the term of each numbered group."""
    written = [(form, term) for term in GLOSSARY for form in (*term.also, *(() if term.also else (re.escape(term.name),)))]
    written.sort(key=lambda item: -len(item[0]))
    groups = {f"g{number}": term for number, (_, term) in enumerate(written)}
    either = "|".join(f"(?P<g{number}>{form})" for number, (form, _) in enumerate(written))
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])", re.IGNORECASE), groups


def linked(text: str) -> Markup:
    """Text, escaped, in which each word of the glossary is a link to its meaning where it comes first, and `what is typed` looks so.

    >>> print(linked("<b> flagged, and flagged again"))
    &lt;b&gt; <a class="term" href="#word-flagged">flagged</a>, and flagged again
    >>> print(linked("`anomaly bench <b>` says more"))
    <code>anomaly bench &lt;b&gt;</code> says more
    """
    pattern, terms = _pattern()
    seen: set[str] = set()

    def link(found: re.Match[str]) -> str:
        term = terms[str(found.lastgroup)]
        if term.anchor in seen:
            return found[0]
        seen.add(term.anchor)
        return f'<a class="term" href="#{term.anchor}">{found[0]}</a>'

    return typed(text, lambda part: Markup(pattern.sub(link, str(escape(part)))))  # noqa: S704 - escaped before


def typed(text: str, plain: Callable[[str], Markup] = escape) -> Markup:
    """Text in which what stands between backticks looks as what is typed; the rest as `plain` gives it.

    >>> print(typed("`anomaly bench` says <more>"), typed("a ` alone"))
    <code>anomaly bench</code> says &lt;more&gt; a ` alone
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its second is a character as any
        parts = [text]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else plain(part) for at, part in enumerate(parts))


def glossary_page() -> str:
    """The glossary as the page docs/reference/glossary.md."""
    head = (
        "# Glossary\n\nWhat the words of reports and commands mean. Every report carries this list at its end.\n\n"
        "<!-- Printed by: python -m anomaly.evaluation.report.glossary. Mend the text there. -->\n"
    )
    return head + "".join(f"\n## {term.name}\n\n{term.text}\n" for term in GLOSSARY)


if __name__ == "__main__":
    print(glossary_page(), end="")

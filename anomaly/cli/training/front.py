"""The front door: from a path alone to a spec, its data and a place for the bundle.

Nothing is written over that was not made from the same data, unless it is asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from anomaly.cli.terminal.console import err
from anomaly.cli.terminal.options import writable_file
from anomaly.cli.training.asking import asked, choose
from anomaly.cli.training.inputs import read_inputs
from anomaly.errors import DataError, SpecError, UnclearError
from anomaly.names import slug

if TYPE_CHECKING:
    from anomaly.pipeline.propose import Answers, Look, Proposal
    from anomaly.spec import CameraSpec, SensorSpec

Read = TypeVar("Read")


QUICK_MS = 10.0  # what a picture may cost by a proposal for --quick: up to about 400 x 400 pixels are looked at


@dataclass(frozen=True)
class Given:
    """What a fit works on. `left` is the spec that stands beside the bundle, None where one was given; `new`: written by this run."""

    spec: CameraSpec | SensorSpec
    data: Path
    out: Path
    left: Path | None = None
    new: bool = False


def from_spec(spec: Path, data: Path, out: Path | None, budget: str | None, force: bool) -> Given:
    """A fit by a spec, on data that was named."""
    parsed = read_inputs(spec, data)
    if budget is not None:
        from anomaly.pipeline.propose import read_budget

        parsed = parsed.model_copy(update={"budget": read_budget(budget)})
    target = _bundle_path(parsed.name) if out is None else out
    if out is None and target.exists() and not force:
        from anomaly.pipeline.propose import made_for

        if made_for(spec) not in {str(data.resolve()), str(data.resolve().parent)}:
            raise SpecError(f"{target} is there already and may be of other data; name another with --out, or write over it with --force")
    return Given(parsed, data, target)


def from_data(path: Path, out: Path | None, budget: str | None, force: bool, quick: bool = False) -> Given:
    """A fit by the data alone: by the spec that stands beside the bundle where it was made for this data, else by one that is proposed now.

    The proposal is told, and written beside the bundle. A `quick` one looks at pictures in small sizes only.
    """
    from anomaly.pipeline.propose import Answers, made_for, to_toml
    from anomaly.pipeline.propose.proposal import name_of

    name = name_of(path) if out is None else out.stem
    answers = Answers(name=name, budget=budget, most_ms=QUICK_MS if quick else None)
    target = _bundle_path(name) if out is None else out
    left = target.with_suffix(".toml")
    if left == target:
        raise typer.BadParameter(f"{target}: a bundle ends in .anomaly; its spec goes to {left.name}", param_hint="--out")
    if left.exists() and not force:
        there = made_for(left)
        if there is None or not _same(there, path):
            of = f"was made for {there}" if there else "was not proposed for this data"
            raise SpecError(
                f"{left} is there already and {of}; name another bundle with --out, fit by it with "
                f"`{shlex.join(['anomaly', 'fit', str(left), '--data', str(path)])}`, "
                "or write over it with --force"
            )
        if budget is not None:
            raise SpecError(f"{left} is there already and holds the budget: change it there, or propose it anew with --force")
        err.print(f"{left}: made for this data before; taken as it is")
        return Given(read_inputs(left, Path(there)), Path(there), target, left)
    there_already = [path for path in (target, target.with_suffix(".html")) if path.exists()]
    if out is None and there_already and not force:
        raise SpecError(
            f"{there_already[0]} is there already, and no {left} tells of which data; name another with --out, or --force writes over it"
        )
    proposal = proposed(path, answers)
    err.print(f"assumed, and written to {left} for you to change:")
    for line in proposal.words:
        err.print(f"  {line}")
    from anomaly.atomic import write_text

    writable_file(left)
    write_text(left, to_toml(proposal))
    return Given(proposal.spec, proposal.data, target, left, new=True)


def proposed(path: Path, answers: Answers, seen: Look | None = None) -> Proposal:
    """The spec proposed for data. What can be read in two ways is asked for on a terminal; elsewhere the error says how to tell it."""
    from anomaly.pipeline.propose import propose

    try:
        return told(answers, lambda known: propose(path, known, seen))[0]
    except UnclearError as error:
        raise DataError(
            *error.args, f"`{shlex.join(['anomaly', 'init', str(path)])}` writes a spec to say it in, or asks on a terminal"
        ) from error


def told(answers: Answers, read: Callable[[Answers], Read]) -> tuple[Read, Answers]:
    """What `read` makes of the answers, with those that it took: on a terminal a person chooses where tables can be read in two ways."""
    while True:
        try:
            return read(answers), answers
        except UnclearError as error:
            if not asked():
                raise
            chosen = choose(str(error).splitlines()[0].partition("; say which")[0], list(error.choices))
            answers = replace(answers, reading={**answers.reading, **error.choices[chosen]})


def _bundle_path(name: str) -> Path:
    target = Path(f"{slug(name)}.anomaly")
    writable_file(target)
    return target


def _same(there: str, path: Path) -> bool:
    """Whether a spec made for `there` is for the data at a path, or for the folder of good parts in it."""
    full = path.resolve()
    return Path(there) == full or (full.is_dir() and Path(there).parent == full and Path(there).is_dir())

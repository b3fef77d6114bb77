"""Lay out a public set from a local copy of the repository named in its module.

python -m benchmarks.protocols.judges boards|commutators|fabrics|castings CHECKOUT --out FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from anomaly.errors import AnomalyError
from benchmarks.protocols.judges.boards import boards
from benchmarks.protocols.judges.castings import castings
from benchmarks.protocols.judges.commutators import commutators
from benchmarks.protocols.judges.fabrics import fabrics
from benchmarks.protocols.judges.placing import Placed, place

SETS: dict[str, Callable[[Path], list[Placed]]] = {
    "boards": boards,
    "castings": castings,
    "commutators": commutators,
    "fabrics": fabrics,
}


def main(arguments: list[str] | None = None) -> None:
    """Lay one set out and print how many pictures went where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SETS))
    parser.add_argument("checkout", type=Path, help="a local copy of the set's repository")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    given = parser.parse_args(arguments)
    try:
        counts = place(given.out, SETS[given.name](given.checkout))
    except AnomalyError as error:
        parser.exit(1, f"{error}\n")
    for folder, count in counts.items():
        print(f"{given.out / folder}: {count} pictures")


if __name__ == "__main__":
    main()

"""A published picture set, category by category: figures at the threshold that normals alone set, the mean, and times.

    python -m benchmarks.protocols.published mvtec|mvtec2|visa|btad|kolektor PATH --out results.json [--categories NAME...] [--spec SPEC]

PATH is the folder that the set was unpacked to; nothing in it is changed. Each category is written to the results as it is done, and the
same command goes on with those that are missing. Image AUROC and AUPRO (up to a false-positive rate of 0.30; MVTec AD 2: 0.05) are told
with the share of faults found, and of good parts flagged, at the threshold; seconds of the fit, and milliseconds a picture on this machine.
Pixel figures are taken on a grid of 256 x 256. Mask and map are brought to it, so that they may differ a little from those at full size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from anomaly import __version__
from anomaly.atomic import write_text
from anomaly.cli.terminal.progress import progress
from anomaly.errors import AnomalyError, DataError
from anomaly.spec import CameraSpec, read_spec
from benchmarks.protocols.published.figures import judge, table
from benchmarks.protocols.published.sets import SETS, PublishedSet

SPEC = Path(__file__).parents[3] / "specs" / "camera.toml"


def main(arguments: list[str] | None = None) -> None:
    """Judge what is missing in the results, and print the table of all that is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SETS))
    parser.add_argument("path", type=Path, help="the folder that the set was unpacked to")
    parser.add_argument("--out", type=Path, required=True, help="where the figures are kept, JSON")
    parser.add_argument("--categories", nargs="+", help="only these; all that are there when not given")
    parser.add_argument("--spec", type=Path, default=SPEC, help="the default is specs/camera.toml")
    parser.add_argument("--work", type=Path, help="where steps are kept, so that a stopped run goes on; OUT.work when not given")
    given = parser.parse_args(arguments)
    if given.out.is_dir():
        parser.error(f"--out {given.out} is a folder; name a JSON file in it")
    try:
        run(given.name, given.path, given.out, given.spec, given.work or given.out.with_suffix(".work"), given.categories)
    except AnomalyError as error:
        parser.exit(1, f"{error}\n")


def run(name: str, root: Path, out: Path, spec_path: Path, work: Path, asked: list[str] | None) -> None:
    """Judge the categories asked for that the results do not hold yet.

    Raises DataError when there is none of them, or when the results are of another set, spec or version.
    """
    published, spec = SETS[name], read_spec(spec_path)
    if not isinstance(spec, CameraSpec):
        raise DataError(f"{spec_path}: a spec of sensors; these sets are pictures, give a camera's")
    settings = {"set": name, "code": __version__, "spec_sha256": hashlib.sha256(spec.model_dump_json().encode()).hexdigest()}
    results = _results(out, settings | {"title": published.title, "spec": spec.model_dump(mode="json")})
    todo = _categories(published, root, asked)
    left = [category for category in todo if category not in results["categories"]]
    if len(left) < len(todo):
        print(f"{len(todo) - len(left)} of {len(todo)} categories are in {out} already")
    for number, category in enumerate(left, start=1):
        print(f"{category} ({number} of {len(left)})", flush=True)
        with progress(category, goes_on=True) as told:
            data = published.data_of(category, root, work / "data")
            own = spec.model_copy(update={"name": category.lower()})
            results["categories"][category] = judge(own, data, work / category, published.limit, told)
        write_text(out, json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(f"{published.title}; AUPRO up to {published.limit:g}; {len(results['categories'])} of {len(published.categories)} categories\n")
    print(table(results["categories"], published.categories))


def _results(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a file of results holds, or the begin of a new one."""
    if not out.exists():
        return {"settings": settings, "categories": {}}
    try:
        held = json.loads(out.read_text(encoding="utf-8"))
        known = {key: held["settings"][key] for key in ("set", "code", "spec_sha256")}
        _ = held["categories"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{out}: no results of this command; give another file as --out") from error
    for key, what in (("set", "another set"), ("code", "another version"), ("spec_sha256", "another spec")):
        if known[key] != settings[key]:
            raise DataError(f"{out}: results of {what}, which are not mixed with these; give another file as --out")
    return dict(held)


def _categories(published: PublishedSet, root: Path, asked: list[str] | None) -> list[str]:
    """The categories to judge, in the published order. Raises DataError for one that is not there, or when none is."""
    unknown = sorted(set(asked or ()) - set(published.categories))
    if unknown:
        raise DataError(f"{published.title} has no category {', '.join(unknown)}; it has {', '.join(published.categories)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the one that {published.title} was unpacked to")
    there = [category for category in published.categories if published.folder_of(category, root) is not None]
    missing = [category for category in asked or () if category not in there]
    if missing or not there:
        wanted = missing or list(published.categories)
        raise DataError(
            f"{root}: {', '.join(wanted)} of {published.title} not found; looked for {published.inside[wanted[0]]} in {wanted[0]}"
        )
    if not asked and len(there) < len(published.categories):
        print(f"not there, and left out: {', '.join(c for c in published.categories if c not in there)}")
    return [category for category in there if not asked or category in asked]


if __name__ == "__main__":
    main()

"""Variants for a bundle that was fitted without them (`anomaly fit --quick`): made from the same data, for the very same detector."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import ValidationError

from anomaly import __version__
from anomaly.atomic import copy_file
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.errors import BundleError, DataError
from anomaly.pipeline.kinds import kind_of
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress


def add_variants(bundle: Bundle, data: Path, work: Path, extractor: Path | None, out: Path, progress: Progress) -> Bundle:
    """Write to `out` the bundle with its variants, and give it back as read from there. Its version stays, its hash is another.

    The spec is the bundle's own. The steps go on from what is in the work folder; where that is gone they fit again. Raises DataError when
    the data is not what the bundle was fitted on, BundleError when what is fitted is not the bundle's detector, byte by byte.
    """
    kind, manifest = kind_of(bundle), bundle.manifest
    try:
        spec = kind.spec.model_validate(manifest.provenance["spec"])
    except (KeyError, ValidationError) as error:
        raise BundleError(f"{bundle.path}: its spec cannot be read by this version ({__version__}); {_again(bundle)}") from error
    line = kind.open_line(spec, data)
    steps = Steps(line, work, extractor, progress, expected=partial(kind.steps_s, line))
    if steps.data_key.train != manifest.provenance.get("data_sha256"):
        raise DataError(
            f"{data}: not the data that {bundle.path} was fitted on: a file was added, removed or changed. "
            f"Give the same, or {_again(bundle)}"
        )
    if steps.graph().read_bytes() != bundle.detector:
        by = f"{manifest.provenance.get('code')} with torch {manifest.provenance.get('torch')}"
        raise BundleError(
            f"{bundle.path}: the same spec and data do not give its detector here. It was made by {by}; if it was fitted with "
            f"--extractor, or from weights that have changed, give the same ones. Nothing was changed; otherwise {_again(bundle)}"
        )
    whole = steps.export()
    copy_file(whole, out)
    return read_bundle(out)


def _again(bundle: Bundle) -> str:
    return f"fit it again with `anomaly fit`, without --quick ({bundle.manifest.name}, version {bundle.manifest.version})"

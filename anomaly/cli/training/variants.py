"""`anomaly bundle variants`: what `anomaly fit --quick` left out. Among the training commands, since it needs PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.options import BundlePath, Data, Work, check_data, writable_file
from anomaly.cli.terminal.progress import progress
from anomaly.cli.training.inputs import LOADING
from anomaly.progress import part, skipped

if TYPE_CHECKING:
    from anomaly.bundle.archive import Bundle


def variants(
    bundle: BundlePath,
    data: Data,
    out_: Annotated[Path | None, typer.Option("--out", callback=writable_file, help="Where it goes; in place when not given.")] = None,
    extractor: Annotated[Path | None, typer.Option(help="The extractor that the bundle was fitted with, if one was given.")] = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Add the fp16 and int8 variants to a bundle that was fitted with --quick. DATA is what it was fitted on."""
    from anomaly.bundle.archive import judged_variants, read_bundle

    before = read_bundle(bundle)
    check_data(data)
    target = bundle if out_ is None else out_
    writable_file(target)
    if judged_variants(before):
        _print_variants(before)
        out.print(f"{bundle}: has its variants already; nothing was changed")
        return
    with progress("variants", goes_on=True) as say:
        say("loading PyTorch")
        from anomaly.pipeline.add_variants import add_variants
        from anomaly.pipeline.kinds import kind_of

        skipped(part(say, 0.0, LOADING))
        known = kind_of(before).has_variants
        found = add_variants(before, data, work, extractor, target, part(say, LOADING, 1.0)) if known else before
    if not known:
        out.print(f"{bundle}: a {before.manifest.kind} detector has no variants: its one graph is quick on every machine")
        return
    _print_variants(found)
    version = before.manifest.version
    out.print(f"bundle: {target}  (version {version} as before; hash {found.hash[:12]}, before {before.hash[:12]})")
    if before.signed:
        err.print(f"{target}: not signed any more, since its content is another; sign it again: anomaly bundle sign {target} --key KEY")


def _print_variants(bundle: Bundle) -> None:
    from anomaly.bundle.archive import VARIANTS, judged_variants

    for name, taken in judged_variants(bundle).items():
        out.print(f"  {name:18} " + (f"{len(bundle.members[VARIANTS[name]]) / 1e6:.1f} MB" if taken else "not good enough, left out"))

"""`anomaly bundle …`: look into, verify and sign bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.terminal.console import out, print_verdict
from anomaly.cli.terminal.options import AsJson, BundlePath

bundle_app = typer.Typer(no_args_is_help=True, help="Look into, verify and sign bundles.")


@bundle_app.command()
def inspect(bundle: BundlePath, json_: AsJson = False) -> None:
    """What a bundle is, in words: what it takes and flags, its alarm rules, what it was learnt from. With --json its whole manifest."""
    from anomaly.bundle.archive import read_bundle

    opened = read_bundle(bundle)
    if json_:
        out.print_json(json.dumps(opened.manifest.model_dump(mode="json") | {"hash": opened.hash, "signed": opened.signed}))
        return
    from anomaly.cli.terminal.bundle_page import bundle_page

    print_verdict(bundle_page(opened))


@bundle_app.command()
def verify(
    bundle: BundlePath,
    key: Annotated[Path | None, typer.Option(help="PEM public key; then a valid signature is required.")] = None,
) -> None:
    """Check every member's hash, the signature if a key is given, and the self-test."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.self_test import self_test
    from anomaly.edge.runtime.session import open_session

    opened = read_bundle(bundle, key)
    tested = self_test(opened, open_session(opened, "cpu"))
    signature = "signature valid" if key else ("signed, no key given to check against" if opened.signed else "not signed")
    out.print(f"{bundle}: whole; {len(opened.members)} members; self-test passed on {tested} examples; {signature}")


@bundle_app.command()
def sign(bundle: BundlePath, key: Annotated[Path, typer.Option(help="PEM private key (Ed25519).")]) -> None:
    """Sign a bundle in place."""
    from anomaly.bundle.archive import sign_bundle

    sign_bundle(bundle, key)
    out.print(f"{bundle}: signed")

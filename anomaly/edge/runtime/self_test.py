"""The self-test of a bundle: does this machine compute what the one that made it computed?"""

from __future__ import annotations

import io

import numpy as np

from anomaly.bundle.archive import Bundle
from anomaly.edge.runtime.session import Session
from anomaly.errors import BundleError

SELF_TEST_RELATIVE = 1e-3  # a GPU may sum in another order; a wrong graph differs by far more
SELF_TEST_LOOSE = 2e-2  # the same for float16 and int8, where processors round in different places


def self_test(bundle: Bundle, session: Session) -> int:
    """Run the bundle's examples and compare with the answers that are stored with them; returns how many there were.

    Raises BundleError when one differs: the graph does not compute here what it computed where it was made.
    """
    names = sorted(name for name in bundle.members if name.startswith("examples/"))
    for name in names:
        try:
            with np.load(io.BytesIO(bundle.members[name]), allow_pickle=False) as example:
                suffix = "" if session.variant == "float" else f"_{session.variant}"
                raw, score, p_value = example["raw"], example[f"score{suffix}"], example[f"p_value{suffix}"]
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise BundleError(f"{bundle.path}: {name} cannot be read: {error}") from error
        try:
            answer = session.run(raw)
            answers = [answer, session.run_stream(raw[0])] if session.streams else [answer]
        except Exception as error:  # ONNX Runtime raises many types, without a common root
            raise BundleError(f"{bundle.path}: the graph cannot be run: {str(error).splitlines()[0][:300]}") from error
        found = np.concatenate([each.score[-1:] for each in answers])
        relative = float(np.max(np.abs(found - score) / np.maximum(np.abs(score), 1.0)))
        threshold = bundle.manifest.threshold.p_value
        if not relative < (SELF_TEST_RELATIVE if session.variant == "float" else SELF_TEST_LOOSE) or any(
            (each.p_value[-1:] <= threshold) != (p_value <= threshold) for each in answers
        ):
            raise BundleError(
                f"{bundle.path}: self-test {name} gives {', '.join(f'{s:.6g}' for s in found)} instead of {float(score[0]):.6g} on "
                f"{session.provider}; do not use it on this machine; try --provider cpu"
            )
    return len(names)

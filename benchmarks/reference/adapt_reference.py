"""CORAL, TrAdaBoost and the adversary against public implementations on shared toy problems.

    python -m benchmarks.reference.adapt_reference --peer PEER_PYTHON [--out FILE.json]

PEER_PYTHON is the Python of an environment of its own with `adapt` (CORAL, TrAdaBoost) and `skada` with torch and skorch (gradient
reversal, DANN's and Deep CORAL's loss), but without triton, which does not go with the tensorflow that `adapt` brings. Reported: the
largest relative difference of CORAL's aligned source; how often TrAdaBoost's decisions agree, with the paper's beta, error / (1 - error),
and with the peer's, error / (2 - error), and both accuracies; the largest difference of the reversed gradients, and of Deep CORAL's
second-moment loss; and DANN as a whole: the same small network against the same critic for 200 steps, by our loss and schedule and by the
peer's, the largest relative difference of the target's features, and how far apart the domains' means were before and after. (The peer's
own critic ends in a softmax over one class, which answers 1 to everything: ours is given to both.)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.features.training.adapt_domains import adversary_loss, coral_loss, reversal_strength, reverse_gradient
from anomaly.features.training.alignment import coral
from anomaly.scorers import boosted
from anomaly.scorers.boosted import fit_tradaboost

ROUNDS, STEPS = 20, 200


def toy(seed: int) -> dict[str, Any]:
    """Two shifted Gaussians with a linear rule that the target has slightly turned; twelve labelled target rows."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(6, 6))
    source, target, fresh = (rng.normal(size=(n, 6)) for n in (300, 12, 2000))
    return {
        "source": source,
        "source_y": (source[:, 0] + source[:, 1] > 0).astype(int),
        "target": target,
        "target_y": (target[:, 0] + 0.5 * target[:, 1] > 0).astype(int),
        "fresh": fresh,
        "fresh_y": (fresh[:, 0] + 0.5 * fresh[:, 1] > 0).astype(int),
        "shifted": rng.normal(size=(400, 6)) @ mix + 3,
        "rounds": ROUNDS,
        "steps": STEPS,
        **{f"network.{i}": rng.normal(size=shape) / shape[-1] ** 0.5 for i, shape in enumerate(((16, 6), (4, 16)))},
        **{f"critic.{i}": rng.normal(size=shape) / shape[-1] ** 0.5 for i, shape in enumerate(((8, 4), (1, 8)))},
    }


def dann(given: dict[str, Any]) -> tuple[NDArray[np.float64], float, float]:
    """Features of the target after adversarial training that holds the source's; distance of the domains' means before and after."""
    source, target = (torch.from_numpy(given[n][:300]) for n in ("source", "shifted"))
    target = target / target.std()
    network, critic = (layers(given, name) for name in ("network", "critic"))
    wanted = network(source).detach()

    def apart() -> float:
        with torch.no_grad():
            return float((network(source).mean(0) - network(target).mean(0)).norm())

    first = apart()
    optimizer = torch.optim.SGD([*network.parameters(), *critic.parameters()], lr=0.05)
    for step in range(STEPS):
        ours = network(source)
        loss = (ours - wanted).square().mean() + adversary_loss(critic, ours, network(target), reversal_strength(step / STEPS))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network(target).detach().numpy(), first, apart()


def layers(given: dict[str, Any], name: str) -> torch.nn.Sequential:
    """A network of two layers with the weights given, in double precision, without offsets."""
    weights = [torch.from_numpy(given[f"{name}.{i}"]) for i in range(2)]
    made = [torch.nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64) for w in weights]
    for layer, weight in zip(made, weights, strict=True):
        layer.weight.data.copy_(weight)
    return torch.nn.Sequential(made[0], torch.nn.Tanh(), made[1])


def main() -> None:
    """Ours and theirs on ten toy problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reference/adapt_reference.json"))
    arguments = parser.parse_args()
    rows = []
    for seed in range(10):
        given = toy(seed)
        with tempfile.TemporaryDirectory() as scratch:
            np.savez(Path(scratch) / "in.npz", **given)
            script = str(Path(__file__).with_name("peer_adapt.py"))
            subprocess.run([arguments.peer, script, scratch], check=True, capture_output=True)
            theirs = np.load(Path(scratch) / "out.npz")
        source, shifted = torch.from_numpy(given["source"]), torch.from_numpy(given["shifted"])
        found = coral(source, shifted, ridge=1e-9)
        moved = (source @ found.matrix.double()).numpy()  # theirs aligns second moments and leaves the means alone
        vote = fit_tradaboost(given["source"], given["source_y"], given["target"], given["target_y"], ROUNDS, balanced=False)
        decided = vote.share(given["fresh"]) >= 0.5
        with mock.patch.object(boosted, "beta_of", lambda error: error / (2 - error) if error > 0 else 1e-9):
            alike = fit_tradaboost(given["source"], given["source_y"], given["target"], given["target_y"], ROUNDS, balanced=False)
        x = source.float().requires_grad_(True)
        (reverse_gradient(x, 0.7) ** 2).sum().backward()
        second = coral_loss(source - source.mean(0), shifted - shifted.mean(0))
        assert x.grad is not None
        features, before, after = dann(given)
        rows.append(
            {
                "coral_relative": float(np.abs(moved - theirs["coral"]).max() / np.abs(theirs["coral"]).max()),
                "tradaboost_agreement": float((decided == theirs["tradaboost"]).mean()),
                "tradaboost_agreement_with_their_beta": float(((alike.share(given["fresh"]) >= 0.5) == theirs["tradaboost"]).mean()),
                "tradaboost_ours": float((decided == given["fresh_y"]).mean()),
                "tradaboost_theirs": float((theirs["tradaboost"] == given["fresh_y"]).mean()),
                "reversed_gradient": float(np.abs(x.grad.numpy() - theirs["reversed"]).max()),
                "dann_features_relative": float(np.abs(features - theirs["dann"]).max() / np.abs(theirs["dann"]).max()),
                "dann_means_apart_before": before,
                "dann_means_apart_after": after,
                "deep_coral_relative": float(abs(float(second) - float(theirs["deep_coral"])) / float(theirs["deep_coral"])),
            }
        )
    result = {"runs": rows, "mean": {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}}
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["mean"], indent=1))


if __name__ == "__main__":
    main()

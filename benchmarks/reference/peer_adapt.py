"""The peer's side of adapt_reference.py, run by a Python that has `adapt` and `skada` with torch: FOLDER/in.npz -> FOLDER/out.npz."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from adapt.feature_based import CORAL
from adapt.instance_based import TrAdaBoost
from skada.deep import DANNLoss
from skada.deep.losses import deepcoral_loss
from skada.deep.modules import GradientReversalLayer
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier


class Stump(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A tree of one split that answers with labels, as the paper's weak learners do; given probabilities, the peer departs from it."""

    def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Stump:
        """Fit."""
        self.tree_ = DecisionTreeClassifier(max_depth=1, random_state=0).fit(x, y, sample_weight=sample_weight)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Labels."""
        return np.asarray(self.tree_.predict(x))


def dann(given: np.lib.npyio.NpzFile) -> np.ndarray:
    """Features of the target after adversarial training that holds the source's, by the peer's loss and reversal."""
    source, target = (torch.from_numpy(given[n][:300]) for n in ("source", "shifted"))
    target = target / target.std()
    a, b, c, d = (torch.from_numpy(given[n]).requires_grad_(True) for n in ("network.0", "network.1", "critic.0", "critic.1"))

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ a.T) @ b.T

    wanted = network(source).detach()
    domains = DANNLoss(domain_criterion=torch.nn.BCEWithLogitsLoss())
    optimizer = torch.optim.SGD([a, b, c, d], lr=0.05)
    steps = int(given["steps"])
    for step in range(steps):
        strength = 2 / (1 + np.exp(-10 * step / steps)) - 1
        ours, theirs = network(source), network(target)
        told = [(torch.tanh(GradientReversalLayer.apply(f, strength) @ c.T) @ d.T).squeeze(1) for f in (ours, theirs)]
        loss = (ours - wanted).square().mean() + 0.5 * domains(domain_pred_s=told[0], domain_pred_t=told[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.asarray(network(target).detach())


def main() -> None:
    """One toy problem."""
    folder = Path(sys.argv[1])
    given = np.load(folder / "in.npz")
    aligned = CORAL(LogisticRegression(), lambda_=1e-9, verbose=0).fit_transform(given["source"], given["shifted"])
    model = TrAdaBoost(Stump(), n_estimators=int(given["rounds"]), verbose=0, random_state=0)
    model.fit(given["source"], given["source_y"], Xt=given["target"], yt=given["target_y"])
    x = torch.from_numpy(given["source"]).float().requires_grad_(True)
    (GradientReversalLayer.apply(x, 0.7) ** 2).sum().backward()
    source, shifted = (torch.from_numpy(given[n]) for n in ("source", "shifted"))
    loss = deepcoral_loss(source - source.mean(0), shifted - shifted.mean(0))
    np.savez(
        folder / "out.npz",
        coral=aligned,
        tradaboost=np.asarray(model.predict(given["fresh"])).ravel() > 0.5,
        reversed=x.grad.numpy(),
        deep_coral=float(loss),
        dann=dann(given),
    )


if __name__ == "__main__":
    main()

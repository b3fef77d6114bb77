"""Mahalanobis distance and PCA by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from anomaly.scorers.sensors.quadratic import fit_gaussian, fit_pca, spe_limit
from tests.features.windows import ROWS, learnt, noise, seen


def test_gaussian_equals_mahalanobis_by_hand() -> None:
    features = seen(noise(300, 4), encoder=learnt(3))
    scorer = fit_gaussian(features, 4)
    rows = torch.cat([m.reshape(300, 4, -1) for m in features[:-1]], dim=2).reshape(300, -1).double().numpy()
    matrix = scorer.root.double().numpy() @ scorer.root.double().numpy().T
    difference = rows - scorer.mean.double().reshape(-1).numpy()
    expected = np.sqrt(np.einsum("ni,ij,nj->n", difference, matrix, difference))
    score, _ = scorer(features)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-3)
    assert float((score**2).mean()) == pytest.approx(1.0, rel=0.2)  # per degree of freedom


def test_pca_is_t2_and_spe_each_over_its_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.einsum("nkt,kc->nct", torch.randn(500, 2, ROWS, generator=generator), torch.randn(2, 6, generator=generator))
    features = seen(z + 0.1 * noise(500, 6, 3))
    rows = torch.cat(features[:-1], dim=2).reshape(500, -1).double().numpy()
    mean, spread = rows.mean(0), rows.std(0)
    standard = (rows - mean) / spread
    variances, vectors = np.linalg.eigh(np.cov(standard.T))
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), 0.9)) + 1
    scores = standard @ vectors
    t2 = (scores[:, :kept] ** 2 / variances[:kept]).sum(1)
    spe = (scores[:, kept:] ** 2).sum(1)
    limit = kept * 499 * 501 / (500 * (500 - kept)) * stats.f.ppf(0.99, kept, 500 - kept)
    expected = np.sqrt(t2 / limit + spe / spe_limit(variances[kept:]))
    np.testing.assert_allclose(fit_pca(features, 6)(features)[0].numpy(), expected, rtol=2e-3)


def test_spe_limit_holds_for_gaussian_residuals() -> None:
    variances = np.array([0.5, 0.3, 0.1, 0.1])
    spe = (np.random.default_rng(0).normal(size=(200_000, 4)) ** 2 * variances).sum(1)
    assert float((spe > spe_limit(variances)).mean()) == pytest.approx(0.01, rel=0.25)  # the law is an approximation: 0.0082

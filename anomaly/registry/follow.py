"""A release folder followed by MLflow: a run and a model version for each bundle it points at, and its two pointers as aliases.

The folder says what holds. MLflow is told again at every publish, so what it missed while it was away is made good then.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly import __version__
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.bundle.release_folder import ReleaseFolder, Role
from anomaly.errors import in_words
from anomaly.names import slug
from anomaly.registry.store import SETTING, artifact_folder, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

Report = Callable[[Path], object]
Log = logging.Logger | logging.LoggerAdapter[Any]
ROLES: tuple[Role, ...] = ("champion", "challenger")
HASH = "anomaly.bundle_sha256"
LONGEST = 6000  # of a parameter, in MLflow
BATCH = 100  # parameters that MLflow takes at once


@dataclass(frozen=True)
class Fresh:
    """What is known of a bundle that was just published: its file in the folder, the data it was fitted to, and what writes its report."""

    bundle: Path
    data: Path
    report: Report


def note_release(release: Path, log: Log, fresh: Fresh | None = None) -> None:
    """Tell MLflow what a release folder points at, where ANOMALY_MLFLOW_URI names one. Never raises: what went wrong is a warning.

    A bundle that MLflow knows already makes no second version.
    """
    address = os.environ.get(SETTING, "").strip()
    if not address:
        return
    try:
        for told in follow(release, address, fresh):
            log.info(told)
    except Exception as error:  # whatever a library does: a fit is worth more than its entry
        log.warning(f"not noted in MLflow: {in_words(error)}. The bundle is published all the same; MLflow is told at the next publish")


def follow(release: Path, address: str, fresh: Fresh | None = None) -> list[str]:
    """Bring MLflow to what the folder points at. Returns what was done, a sentence each; raises RegistryError when it is away."""
    folder = ReleaseFolder(release)
    pointed = {role: folder.pointed(role) for role in ROLES}
    bundles = {role: read_bundle(path) for role, path in pointed.items() if path is not None}
    told: list[str] = []
    with opened(address) as client:
        for role, bundle in bundles.items():
            name = slug(bundle.manifest.name)
            version = _known(client, name, bundle.hash)
            if version is None:
                known = fresh if fresh is not None and fresh.bundle == bundle.path else None
                version = _recorded(client, name, bundle, address, known)
                told.append(f"MLflow: {name} has version {version} now, bundle {bundle.hash[:12]}")
            if _aliases(client, name).get(role) != version:
                client.set_registered_model_alias(name, role, version)
                told.append(f"MLflow: {role} of {name} is version {version}")
        for name in {slug(bundle.manifest.name) for bundle in bundles.values()}:
            for gone in sorted(_aliases(client, name).keys() & (set(ROLES) - bundles.keys())):
                client.delete_registered_model_alias(name, gone)
                told.append(f"MLflow: {name} has no {gone} any more")
    return told


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _known(client: MlflowClient, name: str, digest: str) -> str | None:
    """The version that holds a bundle, None without one."""
    found = client.search_model_versions(f"name = '{name}' and tag.`{HASH}` = '{digest}'")
    return str(found[0].version) if found else None


def _recorded(client: MlflowClient, name: str, bundle: Bundle, address: str, fresh: Fresh | None) -> str:
    """A run with all there is to know, then the version: a run that was cut short has none, and is made anew."""
    experiment = client.get_experiment_by_name(name)
    where = artifact_folder(address)
    made = client.create_experiment(name, artifact_location=where and f"{where}/{name}") if experiment is None else experiment.experiment_id
    run = client.create_run(made, run_name=f"{name} {bundle.manifest.version} {bundle.hash[:12]}", tags={HASH: bundle.hash})
    try:
        _log(client, run.info.run_id, bundle, fresh)
        _keep_files(client, run.info.run_id, bundle, fresh)
        version = _version(client, name, run.info, bundle)
    except BaseException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)
    return version


def _version(client: MlflowClient, name: str, run: Any, bundle: Bundle) -> str:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return str(client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags={HASH: bundle.hash}).version)


def _log(client: MlflowClient, run: str, bundle: Bundle, fresh: Fresh | None) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    params = [Param(key, value[:LONGEST]) for key, value in parameters(bundle.manifest.provenance.get("spec", {}))]
    for start in range(0, len(params), BATCH):
        client.log_batch(run, params=params[start : start + BATCH])
    found = metrics(bundle.manifest.metrics) | _of_fit(bundle)
    client.log_batch(run, metrics=[Metric(key, value, now, 0) for key, value in found.items()])
    client.log_inputs(run, [_dataset(bundle, fresh)])


def _dataset(bundle: Bundle, fresh: Fresh | None) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = str(bundle.manifest.provenance.get("data_sha256", ""))
    source = json.dumps({"sha256": digest} | ({} if fresh is None else {"uri": str(fresh.data)}))
    held = Dataset(name=slug(bundle.manifest.name), digest=digest[:36], source_type="local", source=source)  # MLflow takes 36 characters
    return DatasetInput(held, [InputTag("mlflow.data.context", "training")])


def _keep_files(client: MlflowClient, run: str, bundle: Bundle, fresh: Fresh | None) -> None:
    """The report, and the bundle as a model that `mlflow.pyfunc` loads by `anomaly.registry.pyfunc`."""
    from mlflow import pyfunc

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        pyfunc.save_model(
            str(model),
            loader_module="anomaly.registry.pyfunc",
            data_path=str(bundle.path),
            pip_requirements=[f"anomaly-pipeline=={__version__}"],
        )
        client.log_artifacts(run, str(model), "model")
        if fresh is not None:
            page = Path(folder) / "report.html"
            fresh.report(page)
            client.log_artifact(run, str(page))


def _of_fit(bundle: Bundle) -> dict[str, float]:
    threshold, normals = bundle.manifest.threshold, bundle.manifest.provenance.get("fit", {}).get("normals")
    told = {"threshold_p_value": threshold.p_value, "threshold_score": threshold.score, "normals": normals}
    return {key: float(value) for key, value in told.items() if _is_number(value)}


def parameters(spec: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """A spec's entries as names and texts; tables by dots, lists as JSON.

    >>> list(parameters({"kind": "camera", "input": {"size": 128, "crop": None}, "scorer": {"banks": [1, 2]}}))
    [('kind', 'camera'), ('input.size', '128'), ('scorer.banks', '[1, 2]')]
    """
    for key, value in spec.items():
        name = re.sub(r"[^\w./ -]", "_", f"{above}{key}", flags=re.ASCII)[:250]
        if isinstance(value, Mapping):
            yield from parameters(value, f"{name}.")
        elif value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)


def metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures that are numbers, those with a 95 % interval with its ends as NAME_low and NAME_high.

    >>> metrics({"auroc": 0.9, "ci95": {"auroc": [0.85, 0.94]}, "layout": "mvtec", "f1": float("nan")})
    {'auroc': 0.9, 'auroc_low': 0.85, 'auroc_high': 0.94}
    """
    found: dict[str, float] = {}
    intervals = figures.get("ci95", {})
    for name, value in figures.items():
        ends = intervals.get(name, [None, None])
        told = {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
        found |= {re.sub(r"[^\w./ -]", "_", key, flags=re.ASCII): float(number) for key, number in told.items() if _is_number(number)}
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

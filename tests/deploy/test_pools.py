"""Work pools of kind docker and kubernetes: a real server takes them and all deployments, and what a run gets is hardened and whole."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml

from anomaly import __version__
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_kubernetes import built, pod
from tests.deploy.test_prefect import LOGIN, prefect_server

ROOT = Path(__file__).parents[2]
POOLS = ROOT / "deploy" / "pools"
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((POOLS / f"{kind}.json").read_text())
    return found


def filled(kind: str, **given: object) -> dict[str, Any]:
    """What a worker makes of a template: variables by their defaults, and by what is given; what has neither is left out."""
    made = template(kind)
    properties = made["variables"]["properties"]
    values = {name: each["default"] for name, each in properties.items() if "default" in each} | given
    jsonschema.validate(values, made["variables"])

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(one) for key, one in value.items() if not _is_open(one)}
        if isinstance(value, list):
            return [put(one) for one in value]
        if not isinstance(value, str):
            return value
        for name, one in values.items():
            if value == f"{{{{ {name} }}}}":
                return copy.deepcopy(one)
            value = value.replace(f"{{{{ {name} }}}}", str(one))
        return value

    def _is_open(value: Any) -> bool:
        return isinstance(value, str) and value.startswith("{{ ") and value[3:-3] not in values

    found: dict[str, Any] = put(made["job_configuration"])
    return found


@pytest.mark.timeout(900)
def test_a_server_takes_all_deployments_for_pools_of_each_kind(tmp_path: Path) -> None:
    with prefect_server(tmp_path) as (url, own), httpx.Client(base_url=url, auth=("admin", "secret"), timeout=60) as api:

        def told(*command: str) -> None:
            done = subprocess.run(
                [sys.executable, "-m", "prefect", *command], env=own | {"PREFECT_API_AUTH_STRING": LOGIN, "ANOMALY_HOME": "/app"},
                cwd=ROOT, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr

        told("work-pool", "create", "approvals", "--type", "process")
        for kind in ("docker", "kubernetes"):
            told("work-pool", "create", "factory", "--type", kind, "--base-job-template", str(POOLS / f"{kind}.json"))
            told("--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml")
            pool = api.get("/work_pools/factory").json()
            assert (pool["type"], pool["base_job_template"]) == (kind, template(kind))
            made = api.post("/deployments/filter", json={}).json()
            wanted = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())["deployments"]
            assert len(made) == len(wanted)
            assert {one["work_pool_name"] for one in made} == {"factory", "approvals"}
            assert all(one["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"] == "/app" for one in made)
            one = next(each for each in made if each["work_pool_name"] == "factory")
            # An image of its own is a variable of a run or deployment; what the template does not allow is refused when a run is asked for.
            for image, taken in (("registry.plant/anomaly-trainer:1", True), (7, False)):
                asked = api.post(f"/deployments/{one['id']}/create_flow_run", json={"job_variables": {"image": image}})
                assert asked.is_success == taken, asked.text
            for each in made:
                api.delete(f"/deployments/{each['id']}").raise_for_status()
            told("--no-prompt", "work-pool", "delete", "factory")


def test_a_container_of_a_run_is_as_the_stack_has_its_worker() -> None:
    found = filled("docker", command="prefect flow-run execute", name="run")
    worker = SERVICES["worker"]
    assert found["image"] == f"anomaly-trainer:{__version__}"
    assert found["volumes"] == [f"{COMPOSE['name']}_{volume}" for volume in worker["volumes"]]
    assert found["networks"] == [f"{COMPOSE['name']}_default"]
    more = found["container_create_kwargs"]
    assert {key: more[key] for key in ("init", "read_only", "cap_drop", "security_opt", "pids_limit", "shm_size")} == {
        key: worker[key] for key in ("init", "read_only", "cap_drop", "security_opt", "pids_limit", "shm_size")
    }
    assert list(more["tmpfs"]) == worker["tmpfs"]
    assert not found["privileged"]


@pytest.mark.parametrize("limits", [{"memory": "16Gi"}, {"memory": "16Gi", "nvidia.com/gpu": "1"}])
def test_a_job_of_a_run_is_taken_by_kubernetes_and_as_hardened_as_the_worker(limits: dict[str, str]) -> None:
    manifest = filled("kubernetes", name="run", labels={}, command="prefect flow-run execute", limits=limits)["job_manifest"]
    spec = manifest["spec"]["template"]["spec"]
    (own,) = spec["containers"]
    own["args"], own["env"] = (
        own["args"].split(),
        [{"name": name, "value": value} for name, value in own["env"].items()],
    )  # as the worker does
    assert (spec.pop("parallelism"), spec.pop("completions")) == (1, 1)  # Prefect's worker asks for them here, where Kubernetes knows none
    for version in ("1.30", "1.36"):
        kubernetes_validate.validate(manifest, version, strict=True)
    worker = pod("base", "Deployment", "worker")
    (its,) = worker["containers"]
    assert own["env"][0] in its["env"]
    assert spec["securityContext"] == worker["securityContext"]
    assert spec["volumes"] == worker["volumes"]
    assert (own["securityContext"], own["volumeMounts"]) == (its["securityContext"], its["volumeMounts"])
    assert own["image"] == f"anomaly-trainer:{__version__}"
    assert own["resources"]["limits"] == limits
    assert not spec["automountServiceAccountToken"]


def test_the_worker_of_jobs_may_start_jobs_and_nothing_else() -> None:
    objects = built("jobs")
    for each in objects.values():
        kubernetes_validate.validate(each, "1.36", strict=True)
    worker = pod("jobs", "Deployment", "worker")
    assert worker["serviceAccountName"] == "worker"
    assert "kubernetes" in worker["containers"][0]["command"]
    role = objects["Role", "worker"]
    assert objects["RoleBinding", "worker"]["subjects"] == [{"kind": "ServiceAccount", "name": "worker", "namespace": "anomaly"}]
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"jobs", "pods", "pods/log", "pods/status", "events"}
    assert [rule["resources"] for rule in role["rules"] if "create" in rule["verbs"]] == [["jobs"]]
    assert objects["PersistentVolumeClaim", "work"]["spec"]["accessModes"] == ["ReadWriteMany"]

"""deploy/kubernetes: as kustomize puts it together, by the schemas of Kubernetes, and by what the pods are given to read and to run."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from anomaly import __version__
from anomaly.alarms.sinks.alerts_toml import read_routes
from anomaly.edge.box import read_box
from tests.deploy.test_compose import takes
from tests.integration.servers import program

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ["base", "gpu"]


@functools.cache
def built(overlay: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects that kustomize makes of a folder, by kind and name."""
    done = subprocess.run(
        [program("kubectl", "kubernetes-client"), "kustomize", str(KUBERNETES / overlay)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}


def pod(overlay: str, kind: str, name: str) -> dict[str, Any]:
    return built(overlay)[kind, name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_kubernetes_takes_every_object(overlay: str, version: str) -> None:
    assert len(built(overlay)) == 9
    for each in built(overlay).values():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_would_speak_up() -> None:
    wrong = {**built("base")["Service", "edge"], "spec": {"ports": [{"prot": 9464}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.36", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(("kind", "name", "image"), [("Deployment", "worker", "trainer"), ("StatefulSet", "edge", "edge")])
def test_a_pod_is_hardened_probed_bounded_and_of_our_version(overlay: str, kind: str, name: str, image: str) -> None:
    spec = pod(overlay, kind, name)
    (container,) = spec["containers"]
    assert container["image"] == f"anomaly-{image}:{__version__}"
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    assert {"memory"} <= set(container["resources"]["limits"])
    there = {volume["name"] for volume in spec["volumes"]}
    there |= {claim["metadata"]["name"] for claim in built(overlay)[kind, name]["spec"].get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in container["volumeMounts"]} == there
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in built(overlay)
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in built(overlay)


def test_the_worker_has_a_graphics_card_where_it_is_asked_for_alone() -> None:
    assert pod("gpu", "Deployment", "worker")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in pod("base", "Deployment", "worker")["containers"][0]["resources"]["limits"]
    assert pod("gpu", "StatefulSet", "edge") == pod("base", "StatefulSet", "edge")


def test_the_edge_reads_its_files_and_listens_where_it_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = pod("base", "StatefulSet", "edge")["containers"]
    environment = {each["name"]: each.get("value", "secret") for each in container["env"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment["ANOMALY_LISTEN"] == f"0.0.0.0:{container['ports'][0]['containerPort']}"
    assert container["args"][:2] == ["box", "/etc/anomaly/box.toml"]
    takes(container["args"])
    box = read_box(KUBERNETES / "base" / "box.toml")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(box.store.parent), str(Path(box.line[0].bundle).parents[1]), "/etc/anomaly"} <= mounted
    routes = read_routes(KUBERNETES / "base" / "alerts.toml")
    assert [route.name for route in routes] == ["alertmanager", "prefect"]
    for route in routes:
        route.sink.close()


def test_the_page_names_every_secret_that_has_to_be_made() -> None:
    page = (KUBERNETES.parents[1] / "docs" / "how-to" / "line" / "containers.md").read_text()
    asked = set()
    for kind, name in (("Deployment", "worker"), ("StatefulSet", "edge")):
        spec = pod("base", kind, name)
        asked |= {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        for each in spec["containers"][0]["env"]:
            if "valueFrom" in each:
                asked |= {each["valueFrom"]["secretKeyRef"]["name"]}
                assert f"--from-literal {each['valueFrom']['secretKeyRef']['key']}=" in page
    assert [name for name in asked if f"secret generic {name} " not in page] == []

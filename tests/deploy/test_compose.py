"""deploy/compose: by the schema of Compose, and by what its services are given to read and to run."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer.main
import yaml

from anomaly import __version__
from anomaly.alarms.sinks.alerts_toml import read_routes
from anomaly.cli.main import app
from anomaly.edge.box import read_box
from anomaly.edge.sources.uri import SCHEMES
from tests.integration.servers import free_port, listening, program, serving

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
STACK = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]


def takes(words: list[str]) -> None:
    """Whether `anomaly` knows a command with its options. Raises click's UsageError."""
    group = typer.main.get_command(app)
    with group.make_context("anomaly", words[:1], resilient_parsing=True) as outer:
        command = group.get_command(outer, words[0])  # type: ignore[attr-defined]
        assert command is not None, words[0]
        command.make_context(words[0], words[1:], parent=outer).close()


def text(of: Any) -> str:
    return json.dumps(of)


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_takes_its_files(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE / file)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_graphics_card_goes_to_a_service_that_there_is() -> None:
    assert set(yaml.safe_load((COMPOSE / "compose.gpu.yaml").read_text())["services"]) <= set(SERVICES)


def test_every_image_is_of_one_version_which_is_ours_where_it_has_to_be() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    for name, service in SERVICES.items():
        _, _, tag = service["image"].rpartition(":")
        assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), f"{name}: {service['image']}"
    assert SERVICES["edge-plant"]["image"] == f"anomaly-edge:${{ANOMALY_VERSION:-{__version__}}}"
    assert SERVICES["worker"]["image"] == f"anomaly-trainer:${{ANOMALY_VERSION:-{__version__}}}"
    assert f"prefect=={SERVICES['prefect']['image'].partition(':')[2].partition('-')[0]}" in constraints.splitlines()
    assert f"ANOMALY_VERSION={__version__}" in (COMPOSE / "make-env").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_where_it_must_alone_and_is_seen_from_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["logging"]["options"]["max-file"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_refers_to_is_there(name: str) -> None:
    service = SERVICES[name]
    for mounted in service.get("volumes", []):
        source = mounted.split(":")[0]
        assert source in STACK["volumes"] or (COMPOSE / source).exists(), mounted
        assert source in STACK["volumes"] or mounted.endswith(":ro"), mounted
    for other, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert SERVICES[other]["restart"] == {"service_completed_successfully": "on-failure"}.get(how["condition"], "unless-stopped")
    for secret in service.get("secrets", []):
        assert secret in STACK["secrets"]
        assert f"/run/secrets/{secret}" in text(service["environment"])
    build = service.get("build")
    assert build is None or (COMPOSE / build["context"] / build["dockerfile"]).exists()


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service["image"].startswith("anomaly-edge")])
def test_an_edges_command_is_one_that_there_is(name: str) -> None:
    takes(SERVICES[name]["command"])
    assert 'ENTRYPOINT ["anomaly"]' in (ROOT / "deploy" / "edge.Dockerfile").read_text()


@pytest.mark.parametrize("name", ["worker", "approvals"])
def test_the_workers_command_is_one_that_there_is(name: str) -> None:
    from prefect.cli.worker import start

    words = SERVICES[name]["command"]
    assert words[:3] == ["prefect", "worker", "start"]
    known = str(inspect.signature(start))
    assert [
        word for word in words if word.startswith("--") and word.removeprefix("--").replace("-", "_").removeprefix("with_") not in known
    ] == []


def test_no_volume_is_made_for_nobody() -> None:
    assert {volume for volume in STACK["volumes"] if f'"{volume}:' not in text(SERVICES)} == set()


def test_addresses_lead_to_services_and_to_the_ports_they_serve() -> None:
    served = {
        "prefect": 4200, "mlflow": 5000, "minio": 9000, "mosquitto": 1883, "postgres": 5432, "prometheus": 9090, "alertmanager": 9093,
        "grafana": 3000, "edge-camera": 9464, "edge-plant": 9464,
    }  # fmt: skip
    files = [path for folder in ("edge", "watch", "watch/grafana") for path in (COMPOSE / folder).iterdir() if path.is_file()]
    for words in [(COMPOSE / "compose.yaml").read_text(), *(path.read_text() for path in files)]:
        for host, port in re.findall(r"(?:://|@|\")([a-z][a-z-]+):(\d{4})\b", words):
            if host != "localhost":
                assert served[host] == int(port)
    assert set(served) <= set(SERVICES)
    assert SERVICES["edge-plant"]["environment"]["ANOMALY_LISTEN"].endswith(":9464")
    assert "PREFECT_API_URL: http://prefect:4200/api" in (COMPOSE / "compose.yaml").read_text()


@pytest.mark.parametrize("name", ["camera", "plant"])
def test_an_edge_reads_its_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[f"edge-{name}"]
    assert service["command"] == ["box", "/etc/anomaly/box.toml"]
    assert f"./edge/{name}.toml:/etc/anomaly/box.toml:ro" in service["volumes"]
    for key in service["environment"]:
        monkeypatch.setenv(key, "admin:secret")
    box = read_box(COMPOSE / "edge" / f"{name}.toml")
    inside = {mounted.split(":")[1] for mounted in service["volumes"]}
    assert any(box.store.as_posix().startswith(f"{folder}/") for folder in inside)
    assert box.alerts is not None
    assert box.alerts.as_posix() in inside
    scheme, _, path = box.line[0].source.partition(":")
    assert scheme in SCHEMES
    assert scheme == "mqtt" or path in inside
    assert f"results:{Path(box.line[0].bundle).parents[1].as_posix()}:ro" in service["volumes"]
    routes = read_routes(COMPOSE / "edge" / "alerts.toml")
    assert [route.name for route in routes] == ["alertmanager", "broker", "prefect"]
    for route in routes:
        route.sink.close()


def test_edges_follow_the_releases_that_the_deployments_publish_to() -> None:
    every = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())["deployments"]
    deployments = {one["name"]: one for one in every if one["entrypoint"].endswith(":pipeline")}
    script = (COMPOSE / "servers" / "deployments.sh").read_text()
    assert "results:/app/out" in SERVICES["worker"]["volumes"]
    for name in ("camera", "plant"):
        assert deployments[name]["parameters"]["release"] == f"out/release/{name}"
        assert read_box(COMPOSE / "edge" / f"{name}.toml").line[0].bundle == f"/srv/results/release/{name}"
    assert 'prefect deployment run "pipeline/$line"' in script
    pools = {one["work_pool"]["name"] for one in every}
    assert pools == {SERVICES[name]["command"][4] for name in ("worker", "approvals")}
    assert all(f"work-pool create {pool} " in script for pool in pools)


def test_passwords_and_keys_are_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    program("openssl")
    shutil.copy(COMPOSE / "make-env", tmp_path)
    first = subprocess.run(["sh", str(tmp_path / "make-env")], capture_output=True, text=True, check=True, timeout=60)
    made = {path: path.read_bytes() for path in [tmp_path / ".env", tmp_path / "keys" / "key.pem", tmp_path / "keys" / "trusted.pem"]}
    passwords = dict(line.split("=") for line in made[tmp_path / ".env"].decode().split())
    asked = set(re.findall(r"\$\{(\w+)", (COMPOSE / "compose.yaml").read_text()))
    assert asked == set(passwords)
    assert len(set(passwords.values())) == len(passwords)
    assert all(len(value) == 48 for name, value in passwords.items() if name.endswith("PASSWORD"))
    assert not [value for value in passwords.values() if value in first.stdout and len(value) > 10]
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    subprocess.run(["sh", str(tmp_path / "make-env")], capture_output=True, check=True, timeout=60)
    assert {path: path.read_bytes() for path in made} == made


def test_the_sample_line_says_what_its_table_holds() -> None:
    table = ROOT / "data_samples" / "plant" / "test.csv"
    script = ["sh", str(COMPOSE / "edge" / "replay.sh"), str(table), "plant/north", "0"]
    said = subprocess.run(script, env={**os.environ, "PUBLISH": "cat"}, capture_output=True, text=True, check=True, timeout=60).stdout
    rows = pd.DataFrame([json.loads(line) for line in said.splitlines()])
    pd.testing.assert_frame_equal(rows, pd.read_csv(table)[rows.columns], check_dtype=False)
    assert {"time", "anomaly", "fault_kind"}.isdisjoint(rows.columns)


def test_the_broker_lets_in_who_has_the_password_and_no_one_else(tmp_path: Path) -> None:
    mosquitto, passwd = program("mosquitto"), program("mosquitto_passwd", "mosquitto")
    port = free_port()
    settings = (COMPOSE / "servers" / "mosquitto.conf").read_text()
    (tmp_path / "mosquitto.conf").write_text(
        settings.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/tmp/passwords", str(tmp_path / "passwords"))
        .replace("/mosquitto/data/", f"{tmp_path}/") + ("user root\n" if os.geteuid() == 0 else "")
    )  # fmt: skip
    subprocess.run([passwd, "-b", "-c", str(tmp_path / "passwords"), "anomaly", "right"], check=True, capture_output=True)
    from paho.mqtt import client as mqtt

    def answer(password: str) -> str:
        found: list[str] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.on_connect = lambda *told: found.append(str(told[3]))
        client.username_pw_set("anomaly", password)
        client.connect("127.0.0.1", port)
        while not found:
            client.loop(0.1)
        client.disconnect()
        return found[0]

    with serving([mosquitto, "-c", tmp_path / "mosquitto.conf"], lambda: listening(port), tmp_path / "log"):
        assert answer("right") == "Success"
        assert answer("wrong") == "Not authorized"


def test_prometheus_and_alertmanager_take_the_stacks_files(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "watch" / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "deploy" / "prometheus" / "anomaly.rules.yml", tmp_path)
    subprocess.run([program("promtool", "prometheus"), "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)
    amtool = program("amtool", "prometheus-alertmanager")
    subprocess.run([amtool, "check-config", COMPOSE / "watch" / "alertmanager.yml"], check=True, capture_output=True)


def test_grafana_is_told_of_a_source_and_of_dashboards_that_are_mounted() -> None:
    source = yaml.safe_load((COMPOSE / "watch" / "grafana" / "datasource.yml").read_text())["datasources"][0]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    provider = yaml.safe_load((COMPOSE / "watch" / "grafana" / "dashboards.yml").read_text())["providers"][0]
    assert f"../grafana:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]

"""The files of deploy/ for those who run and watch the monitor, checked by the programs that read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.metrics import Metrics
from anomaly.alarms.health.server import serving
from anomaly.alarms.store import Store
from tests.integration.servers import program

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana").glob("*.json"))}
EXPRESSIONS = [target["expr"] for dashboard in DASHBOARDS.values() for panel in dashboard["panels"] for target in panel["targets"]]
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def checked(*command: object, folder: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def given(tmp_path: Path) -> set[str]:
    """The names of all metrics that a monitor gives."""
    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db")
    board.add(["press-3"])
    return set(re.findall(r"^# TYPE (\w+)", Metrics(board).text().body.decode(), re.MULTILINE))


def used(text: str) -> set[str]:
    return {SUFFIX.sub("", name) for name in re.findall(r"\b((?:anomaly|process)_\w+)", text)}


def test_prometheus_takes_its_files() -> None:
    promtool = program("promtool", "prometheus")
    assert "14 rules found" in checked(promtool, "check", "rules", PROMETHEUS / "anomaly.rules.yml")
    checked(promtool, "check", "config", PROMETHEUS / "prometheus.yml")


def test_alertmanager_takes_its_file() -> None:
    checked(program("amtool", "prometheus-alertmanager"), "check-config", PROMETHEUS / "alertmanager.yml")


def test_the_rules_speak_up_when_they_should_and_only_then(tmp_path: Path) -> None:
    for file in (PROMETHEUS / "anomaly.rules.yml", Path(__file__).with_name("rules.test.yml")):
        shutil.copy(file, tmp_path)
    checked(program("promtool", "prometheus"), "test", "rules", "rules.test.yml", folder=tmp_path)


def test_every_metric_of_rules_and_dashboard_exists(tmp_path: Path) -> None:
    names = given(tmp_path)
    rules = (PROMETHEUS / "anomaly.rules.yml").read_text()
    exprs = "\n".join(re.findall(r"expr: (?:>\n)?((?:.+\n)(?: {10,}.+\n)*)", rules))
    assert used(exprs) - names == set()
    assert used(json.dumps(DASHBOARDS)) - names == set()
    assert len(used(exprs)) > 10
    assert len(used("\n".join(EXPRESSIONS))) > 10


def test_every_metric_is_documented(tmp_path: Path) -> None:
    table = re.search(r"\| metric \|.*?\n\n", (DEPLOY.parent / "docs" / "reference" / "cli.md").read_text(), re.DOTALL)
    assert table is not None
    told = set(re.findall(r"`(anomaly_\w+)`", table[0]))
    assert told == {name for name in given(tmp_path) if name.startswith("anomaly_")}


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    lines = [f"  - {{record: 'q:{i}', expr: {json.dumps(expr)}}}" for i, expr in enumerate(EXPRESSIONS)]
    (tmp_path / "q.yml").write_text("groups:\n- name: dashboard\n  rules:\n" + "\n".join(lines) + "\n")
    assert f"{len(EXPRESSIONS)} rules found" in checked(program("promtool", "prometheus"), "check", "rules", tmp_path / "q.yml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboards_panels_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_refers_to_what_there_is(name: str) -> None:
    dashboard, text = DASHBOARDS[name], json.dumps(DASHBOARDS[name])
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)", text)) == variables
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${source}"}
    assert {panel["type"] for panel in dashboard["panels"]} <= {"stat", "table", "timeseries"}
    assert set(re.findall(r"/d/([\w-]+)", text)) <= {each["uid"] for each in DASHBOARDS.values()}
    for variable in re.findall(r"var-(\w+)=", text):
        assert variable in {each["name"] for each in DASHBOARDS["lines"]["templating"]["list"]}


@pytest.mark.parametrize(("file", "unit"), [("anomaly-box.service", None), ("anomaly-monitor@.service", "anomaly-monitor@press-3.service")])
def test_systemd_takes_the_units_and_finds_them_hardened(file: str, unit: str | None, tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    text = (DEPLOY / "systemd" / file).read_text()
    assert "/opt/anomaly/bin/anomaly" in text
    (tmp_path / file).write_text(text.replace("/opt/anomaly/bin/anomaly", sys.executable))  # verify wants the program to be there
    told = checked(analyze, "verify", "--man=no", f"./{unit or file}", folder=tmp_path)
    assert [line for line in told.splitlines() if file.partition("@")[0].partition(".")[0] in line] == []
    score = checked(analyze, "security", "--offline=true", "--no-pager", f"./{unit or file}", folder=tmp_path)
    assert float(re.search(r"exposure level for .*: ([\d.]+)", score)[1]) < 2.5  # type: ignore[index]


@pytest.mark.parametrize("file", ["anomaly-box.service", "anomaly-monitor@.service"])
def test_the_units_commands_are_ones_that_there_are(file: str) -> None:
    from typer.testing import CliRunner

    from anomaly.cli.main import app

    text = (DEPLOY / "systemd" / file).read_text()
    command = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
    help_text = CliRunner().invoke(app, [command[1], "--help"], env={"COLUMNS": "300"}).output
    assert [word for word in command if word.startswith("--") and f"{word} " not in help_text] == []
    assert "ANOMALY_LISTEN" in help_text


def test_the_images_health_check_asks_the_monitor(tmp_path: Path) -> None:
    text = (DEPLOY / "edge.Dockerfile").read_text()
    command = json.loads(re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text, re.MULTILINE)[1])  # type: ignore[index]
    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db")
    board.add(["press-3"])

    def asked(listen: str) -> int:
        environment = {**os.environ, "ANOMALY_LISTEN": listen}
        return subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, timeout=60).returncode

    with serving(board, Address("127.0.0.1", 0)) as address:
        assert asked(f"0.0.0.0:{address.port}") == 0
        board.stuck_s = -1.0
        board.lines["press-3"].alive()
        assert asked(f"0.0.0.0:{address.port}") == 1
    assert asked(str(address)) == 1

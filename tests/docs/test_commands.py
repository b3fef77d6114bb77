"""Every command that a page shows can be typed as it stands, and those on the samples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from anomaly.cli.main import app
from tests.conftest import Fitted
from tests.docs.pages import DOCS, ROOT, inline_commands, shown_commands, words

FOLDERS = ("how-to", "tutorials", "reference", "explanation")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *(page for folder in FOLDERS for page in sorted((DOCS / folder).rglob("*.md")))]
SHOWN = sorted({(command, page.relative_to(ROOT).as_posix()) for page in PAGES for command in shown_commands(page)})


def command_of(args: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that words name, and the words after it. A group where they name none of its commands."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and args and args[0] in command.commands:
        command, args = command.commands[args[0]], args[1:]  # type: ignore[assignment]
    return command, args  # type: ignore[return-value]


@pytest.mark.parametrize(("command", "page"), SHOWN, ids=[f"{page}: {command}" for command, page in SHOWN])
def test_a_command_that_a_page_shows_can_be_typed(command: str, page: str) -> None:
    found, rest = command_of(words(command))
    found.make_context(str(found.name), rest)  # raises where a word is too many, missing, or no value of its option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_named_in_a_text_are_there(page: Path) -> None:
    root, wrong = typer.main.get_command(app), []
    for command in inline_commands(page):
        found, _ = command_of(re.split(r"[ |\\]+", command.removeprefix("anomaly ")))
        known = {option for param in found.params for option in (*param.opts, *param.secondary_opts)}
        options = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", command)) - {"--help", "-h"}
        if found is root or (options - known and not isinstance(found, TyperGroup)):
            wrong.append(command)
    assert wrong == []


def test_pages_show_commands() -> None:
    assert len(SHOWN) > 40


BUNDLES = {"part.anomaly": "camera", "plant.anomaly": "sensor"}  # of the tutorial, and the small ones of the tests that stand for them
SECOND = ("inspect", "score", "monitor", "evaluate", "check", "bundle", "init", "flagged")  # what takes seconds; a fit takes minutes
TUTORIAL = [c for c in shown_commands(DOCS / "tutorials" / "first-detector.md") if words(c)[0] in SECOND and "press.anomaly" not in c]


@pytest.mark.parametrize("command", TUTORIAL)
def test_the_tutorial_s_commands_run_on_the_samples(
    command: str, camera: Fitted, sensor: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = {"camera": camera, "sensor": sensor}
    for folder in ("data_samples", "deploy", "specs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for name, of in BUNDLES.items():
        (tmp_path / name).symlink_to(fitted[of].bundle)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words(command), catch_exceptions=False)
    assert result.exit_code in (0, 3), result.output  # 3: something is flagged
    made = re.findall(r"--(?:report|json|csv|out|store) (\S+)", command)
    assert [name for name in made if not (tmp_path / name).exists()] == []


def test_the_tutorial_runs_more_than_fits() -> None:
    assert {words(command)[0] for command in TUTORIAL} >= {"evaluate", "score", "monitor"}

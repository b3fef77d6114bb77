"""The notebooks run from top to bottom, in a kernel of their own, and what they hold fits what they give."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
LARGEST = 300_000  # bytes of a stored notebook, with its plots


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy, so that what it saves is not left in the project. Each cell prints or shows what it did when it was stored."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel is another process
    where = tmp_path / "docs" / "tutorials"
    where.mkdir(parents=True)
    (tmp_path / "data_samples").symlink_to(ROOT / "data_samples")
    shutil.copy(path, where)
    stored = nbformat.read(path, as_version=4)
    run = nbformat.read(where / path.name, as_version=4)
    NotebookClient(run, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(where)}}).execute()
    nbformat.validate(run)
    for before, after in zip(stored.cells, run.cells, strict=True):
        kinds = [
            [sorted(out.get("data", {})) for out in cell.get("outputs", []) if out.output_type != "stream"] for cell in (before, after)
        ]
        assert kinds[0] == kinds[1], before.source


def test_notebooks_are_small_and_hold_no_path_of_a_machine() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["pictures", "sensors"]
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert len(text) < LARGEST
        assert "site-packages" not in text
        assert str(ROOT) not in text

"""Help and mistakes are answered at once: nothing that is slow to import is imported for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly import __version__
from tests.conftest import run

SLOW = ("torch", "torchvision", "sklearn", "scipy", "pandas", "onnxruntime", "pint", "matplotlib", "timm")
WATCHED = f"""
import json, os, sys
from anomaly.cli.main import main
for number, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()  # each begins as a new process does, and what it imports is its own
    if child == 0:
        os.dup2(os.open(f"told-{{number}}", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        sys.argv[1:] = arguments
        try:
            sys.exit(main())
        finally:
            print("imported:", [name for name in {SLOW} if name in sys.modules])
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
CASES = [
    (["--help"], "Fit a detector on normal data"),
    (["fit", "--help"], "--extractor"),
    (["fit", "wrong.toml", "--data", ".", "--out", "b"], "error: wrong.toml: unknown key `input.siz`; did you mean `size`?"),
    (["fit", "absent.toml", "--data", ".", "--out", "b"], "error: absent.toml: no such file; specs/camera.toml"),
    (["fit", "gone.toml", "--data", ".", "--out", "b"], "error: gone.toml: key `calibration.records`: nowhere: no such file or folder"),
    (["fit", "good.toml", "--data", "nowhere", "--out", "b"], "error: nowhere: no such file or folder; --data names"),
    (["pretrain", "wrong.toml", "--data", ".", "--out", "b"], "unknown key `input.siz`"),
    (["transfer", "nowhere.anomaly", "good.toml", "--data", ".", "--out", "b"], "error: nowhere.anomaly: no such file or folder"),
    (["transfer", ".", "wrong.toml", "--data", ".", "--out", "b"], "unknown key `input.siz`"),
    (["sources", "wrong.toml", "--data", ".", "--source", "."], "unknown key `input.siz`"),
    (["sources", "good.toml", "--data", ".", "--source", "nowhere"], "error: nowhere: no such file or folder; --source names"),
    (["fit", "good.toml", "--data", "empty.csv", "--out", "b"], "error: empty.csv: the file is empty (0 bytes)"),
    (["fit", "good.toml", "--data", ".plant/t.csv", "--out", "b"], "t.csv: this looks like a table of readings: use specs/sensor.toml"),
    (["fit", ".plant", "--data", ".plant", "--out", "b"], ".plant: this looks like a table of readings: use specs/sensor.toml"),
    (["fit", "nowhere"], "error: nowhere: no such file or folder; give a folder of pictures"),
    (["init", "mqtt://broker/plant"], "error: mqtt://broker/plant: a live stream of readings"),
    (["check", "wrong.toml", "--data", "nowhere"], "error: wrong.toml: unknown key `input.siz`; did you mean `size`?"),
    (["table", "empty.csv", "--out", "o.csv"], "error: empty.csv: the file is empty (0 bytes)"),
    (["curve", ".", "good.toml", "--data", "nowhere", "--out", "c.html"], "error: nowhere: no such file or folder; --data names"),
    (["evaluate", "nowhere.anomaly", "--data", "."], "error: nowhere.anomaly: no such bundle"),
    (["evaluate", "nowhere.anomaly", "--data", "nowhere"], "error: nowhere: no such file or folder"),
    (["score", "nowhere.anomaly", "."], "error: nowhere.anomaly: no such bundle"),
    (["batch", "nowhere.anomaly", ".", "--out", "o"], "error: nowhere.anomaly: no such bundle"),
    (["bundle", "inspect", "nowhere.anomaly"], "error: nowhere.anomaly: no such bundle"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """The exit code of each command, and all it printed."""
    folder = tmp_path_factory.mktemp("startup")
    (folder / "good.toml").write_text('kind = "camera"')
    (folder / "wrong.toml").write_text('kind = "camera"\n[input]\nsiz = 3')
    (folder / "gone.toml").write_text('kind = "sensor"\n[calibration]\nrecords = "nowhere"')
    (folder / "empty.csv").touch()
    (folder / ".plant").mkdir()
    (folder / ".plant/t.csv").write_text("time;flow\n0;1\n")
    command = [sys.executable, "-c", WATCHED, json.dumps([arguments for arguments, _ in CASES])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return [(int(code), (folder / f"told-{number}").read_text()) for number, code in enumerate(done.stdout.split())]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(arguments) for arguments, _ in CASES])
def test_help_and_mistakes_import_nothing_slow(told: list[tuple[int, str]], number: int) -> None:
    (arguments, message), (code, said) = CASES[number], told[number]
    assert message in said
    assert said.splitlines()[-1] == "imported: []"
    assert code == (0 if "--help" in arguments else 1)


def test_version() -> None:
    """The command prints the version of the package, which work folders and bundles are named by."""
    assert run("--version").strip() == f"anomaly-pipeline {__version__}"


GONE = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
"""


def test_a_base_install_says_what_a_fit_needs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,a\n" + "".join(f"2026-01-01T00:{i // 60:02}:{i % 60:02},{i % 7}\n" for i in range(600)))
    code = GONE + "sys.argv[1:] = ['fit', 'a.csv']; from anomaly.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "this needs torch, which the base install does without; run: pip install 'anomaly-pipeline[train]'" in " ".join(
        done.stderr.split()
    )
    assert "Traceback" not in done.stderr

"""What several commands are given, and what is checked of it before any work."""

from __future__ import annotations

import math
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.terminal.console import out
from anomaly.data.files import PICTURES, TABLES
from anomaly.errors import DataError


def writable_file(path: Path | None) -> Path | None:
    """The path of a file that will be written. Raises BadParameter when it cannot be: found out now, not after the work.

    Folders on the way that are not there will be made.
    """
    if path is not None and path.exists() and not path.is_file():
        what = "a folder; name a file in it" if path.is_dir() else "not a plain file, and would be replaced by one; name another"
        raise typer.BadParameter(f"{path} is {what}")
    if path is not None:
        _check_folder(path.absolute().parent)
    return path


def writable_folder(path: Path) -> Path:
    """The path of a folder that files will be written to. Raises BadParameter when they cannot be."""
    _check_folder(path.absolute())
    return path


def _check_folder(folder: Path) -> None:
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is a file, so it cannot be a folder for what is to be written; name another place")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise typer.BadParameter(f"nothing can be written in {there}: {error.strerror}; name another place") from error


def check_not_empty(path: Path) -> None:
    """Raise DataError for a file of 0 bytes, which no reader can make anything of."""
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); export it again")


def check_data(data: Path) -> None:
    """Raise DataError when there is nothing at the path given as --data, or nothing in it."""
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; --data names a folder of pictures, a table or a folder of tables")
    check_not_empty(data)


def positive(value: float | None) -> float | None:
    """A number above zero. Raises BadParameter for another."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise typer.BadParameter(f"{value:g} is not a number above 0")
    return value


def counts(text: str) -> str:
    """Whole numbers from 1 on, with commas. Raises BadParameter for others."""
    if not all(part.strip().isdecimal() and int(part) > 0 for part in text.split(",")):
        raise typer.BadParameter(f"{text!r}: write whole numbers from 1 on, with commas: 1,8,32")
    return text


def json_file(path: Path | None) -> Path | None:
    """Where JSON goes: a file, or `-` for standard output, where then nothing else is printed.

    Raises BadParameter for a place that cannot be written, and for a picture, a table or a bundle: it was meant as an argument.
    """
    if path is not None and path == STDOUT:
        out.stderr = True
        return path
    if path is not None and path.is_file() and path.suffix.lower() in (*PICTURES, *TABLES, ".anomaly", ".toml"):
        raise typer.BadParameter(f"{path} would be written over; name a file for the JSON, or put --json last to print it")
    return writable_file(path)


def write_json(path: Path, text: str) -> None:
    """Write JSON to the place that `json_file` took."""
    if path == STDOUT:
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    from anomaly.atomic import write_text

    write_text(path, text)


STDOUT = Path("-")
FOUND = 3  # exit code: all was done, and something was flagged
SpecPath = Annotated[Path, typer.Argument(help="The detector's spec (TOML).")]
BundlePath = Annotated[Path, typer.Argument(help="The bundle (.anomaly).")]
Data = Annotated[Path, typer.Option(help="Folder of pictures, or a table or folder of tables.")]
Work = Annotated[Path, typer.Option(callback=writable_folder, help="Folder for intermediate results; safe to delete.")]
FiguresPath = Annotated[
    Path | None,
    typer.Option("--json", callback=json_file, metavar="[FILE]", help="What was found as JSON: to a file, without one to standard output."),
]
AsJson = Annotated[bool, typer.Option("--json", help="What was found as JSON.")]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit code 0, not 3, when something is flagged.")]


class ProviderName(StrEnum):
    auto = "auto"
    tensorrt = "tensorrt"
    cuda = "cuda"
    cpu = "cpu"


Provider = Annotated[ProviderName, typer.Option(help="Where the graph runs: TensorRT, CUDA, then CPU, or one of them forced.")]

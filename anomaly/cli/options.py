"""What several commands are given."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[Path, typer.Argument(help="The detector's spec (TOML).")]
BundlePath = Annotated[Path, typer.Argument(help="The bundle (.anomaly).")]
Data = Annotated[Path, typer.Option(help="Folder of pictures, or a table or folder of tables.")]
Work = Annotated[Path, typer.Option(help="Folder for intermediate results; safe to delete.")]


class ProviderName(StrEnum):
    auto = "auto"
    tensorrt = "tensorrt"
    cuda = "cuda"
    cpu = "cpu"


Provider = Annotated[ProviderName, typer.Option(help="Where the graph runs: TensorRT, CUDA, then CPU, or one of them forced.")]

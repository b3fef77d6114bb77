"""A network is loaded without PyTorch's compiler, and the compiler is whole afterwards."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, torch
before = torch.compiler.disable
from anomaly.features.backbones import load_backbone
extractor, _ = load_backbone("efficientnet_lite0", ["blocks.4"])
assert extractor(torch.zeros(1, 3, 64, 64))[0].shape == (1, 112, 4, 4)
assert "torch._dynamo" not in sys.modules
assert torch.compiler.disable is before
import torch._dynamo, torchvision, timm
assert torch._dynamo.utils.is_compile_supported("cpu") in (True, False)
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, (2, 2)).eq(1).all()
"""


def test_a_network_is_loaded_without_the_compiler_which_is_whole_afterwards() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_where_the_compiler_is_loaded_already_nothing_stands_in_for_it() -> None:
    subprocess.run(
        [sys.executable, "-c", "import torch._dynamo\n" + SCRIPT.replace('assert "torch._dynamo" not in sys.modules', "")], check=True
    )

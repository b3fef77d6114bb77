"""Imports timm and torchvision without PyTorch's compiler, which both ask for at import and no fit uses: two seconds of every start.

torchvision asks once whether boxes can be pooled by compiled code, timm marks functions of one network as not to be compiled. While they
are imported, stand-ins answer no and mark nothing. Afterwards the compiler can be imported as ever.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

ASKED = "torch._dynamo.utils"  # the module that torchvision asks


@contextmanager
def _without_compiler() -> Iterator[None]:
    marks, stand_in = torch.compiler.disable, types.ModuleType(ASKED)
    vars(stand_in)["is_compile_supported"] = lambda device: False
    sys.modules[ASKED] = stand_in
    torch.compiler.disable = _unmarked
    try:
        yield
    finally:
        sys.modules.pop(ASKED, None)
        torch.compiler.disable = marks


def _unmarked(fn: Callable[..., Any] | None = None, *rest: Any, **named: Any) -> Any:
    """`torch.compiler.disable` as a decorator that does nothing, with arguments or without."""
    return fn if fn is not None else lambda function: function


def import_timm() -> types.ModuleType:
    """The module `timm`, with torchvision beside it. Call this in place of importing either."""
    if "timm" not in sys.modules and "torchvision" not in sys.modules and "torch._dynamo" not in sys.modules:
        try:
            with _without_compiler():
                return importlib.import_module("timm")
        except ImportError:  # another version asks for more: then it is to have it
            for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
                del sys.modules[name]
    return importlib.import_module("timm")

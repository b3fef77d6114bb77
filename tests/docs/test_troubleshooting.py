"""Every message that the troubleshooting page quotes is still one of ours."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import DOCS, ROOT

ROWS = re.findall(r"^\| (.*?) \| ", (DOCS / "how-to" / "troubleshooting.md").read_text().split("## What no message tells")[0], re.MULTILINE)
QUOTED = [part for row in ROWS for part in re.findall(r"`([^`]+)`", row)]


@cache
def said() -> tuple[str, ...]:
    """Every piece of text in the code, as it is put together there."""
    files = sorted((ROOT / "anomaly").rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    return tuple(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_still_said(quoted: str) -> None:
    assert any(quoted in text for text in said())


def test_messages_are_quoted() -> None:
    assert len(QUOTED) > 40

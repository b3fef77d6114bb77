"""Who may sign in, as a file says it (`--page-auth`). It holds hashes of tokens, never a token."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly.errors import SpecError
from anomaly.page.auth.roles import Role
from anomaly.toml_file import read_toml


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Token(_Part):
    """One person or program. `sha256`: of the token, in hexadecimal digits."""

    name: str = Field(min_length=1, max_length=100)
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class AuthSettings(_Part):
    """A session ends `session_h` hours after it began, and `idle_min` minutes after the person last did something."""

    token: list[Token] = Field(min_length=1)
    session_h: float = Field(default=12.0, gt=0, le=24 * 31)
    idle_min: float = Field(default=60.0, gt=0, le=24 * 60)


def read_auth(path: Path) -> AuthSettings:
    """Read the file. Raises SpecError naming the key that is wrong."""
    given = read_toml(path, "docs/how-to/line/the-page.md")
    try:
        return AuthSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        hint = "make one with: anomaly page token --name NAME --role view" if first["loc"][:1] == ("token",) else "see the page's how-to"
        raise SpecError(f"{path}: {key}: {first['msg']}; {hint}") from error


def new_token() -> tuple[str, str]:
    """A token and its SHA-256."""
    token = secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> str:
    """What is kept of a token. It has 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()

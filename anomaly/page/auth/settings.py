"""Who may sign in, as a file says it (`--page-auth`). It holds hashes of tokens and the name of a variable, never a secret."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import secrets
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from anomaly.errors import SpecError
from anomaly.names import masked
from anomaly.page.auth.roles import Role
from anomaly.toml_file import explain, read_toml

log = logging.getLogger("anomaly")
HOW_TO = "docs/how-to/line/the-page.md"


def is_own(host: str) -> bool:
    """Whether a name or number of a host is this machine itself.

    >>> is_own("localhost"), is_own("127.0.0.1"), is_own("::1"), is_own("plant.example")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def web_address(address: str) -> str:
    """An address of a server without its last slash. Raises ValueError for anything else."""
    parts = urlsplit(address)
    if not parts.hostname or parts.scheme not in ("http", "https") or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("should be an address such as https://plant.example")
    return address.rstrip("/")


def _protected(address: str) -> str:
    address = web_address(address)
    parts = urlsplit(address)
    if parts.scheme == "http" and not is_own(parts.hostname or ""):
        raise ValueError("should begin with https: what is sent by http can be read and changed on its way")
    return address


def _machine(address: str) -> str:
    ipaddress.ip_network(address)  # its ValueError says what is wrong
    return address


Protected = Annotated[str, Field(max_length=500), AfterValidator(_protected)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Token(_Part):
    """One person or program. `sha256`: of the token, in hexadecimal digits."""

    name: str = Field(min_length=1, max_length=100)
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Oidc(_Part):
    """Sign-in at the company's own server (OpenID Connect, authorization code with PKCE).

    client_secret_env: the variable of the environment that holds the secret; left out for a public client
    role_claim: where the identity token says what groups someone is in; a dot goes one level down, as in realm_access.roles
    roles: what a group may do. Who is in several has the highest of their roles, who is in none may not sign in
    """

    issuer: Protected
    client_id: str = Field(min_length=1, max_length=200)
    client_secret_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    scopes: list[str] = Field(default=["openid", "profile"], min_length=1)
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: dict[str, Role] = Field(min_length=1)


class AuthSettings(_Part):
    """A session ends `session_h` hours after it began, and `idle_min` minutes after the person last did something.

    url: the address at which people open the page, where a proxy stands before it, or where they sign in by OIDC
    proxies: addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed
    """

    token: list[Token] = []
    oidc: Oidc | None = None
    url: Protected | None = None
    proxies: list[Annotated[str, AfterValidator(_machine)]] = []
    session_h: float = Field(default=12.0, gt=0, le=24 * 31)
    idle_min: float = Field(default=60.0, gt=0, le=24 * 60)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.token and self.oidc is None:
            raise ValueError("names nobody: add a [[token]] (anomaly page token --name NAME --role view prints one), or [oidc]")
        if self.oidc is not None and self.url is None:
            raise ValueError("[oidc] needs the key `url` at the top: the address at which people open the page")
        return self


def read_auth(path: Path) -> AuthSettings:
    """Read the file. Raises SpecError naming the key that is wrong."""
    given = read_toml(path, HOW_TO)
    try:
        return AuthSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][-1:] == ("sha256",):  # what was given may be the token itself: it is not repeated
            number = int(first["loc"][1]) + 1
            raise SpecError(
                f"{path}: [[token]] number {number}, key `sha256`: must be the 64 digits 0-9 a-f that `anomaly page token` prints"
            ) from None
        raise SpecError(f"{path}: {masked(explain(AuthSettings, first))}; see {HOW_TO}") from error


class AuthFile:
    """The file, and whether it has changed since it was last looked at."""

    def __init__(self, path: Path) -> None:
        self.path, self._stamp = path, _stamp(path)

    def changed(self) -> AuthSettings | None:
        """What it says now, None where it is as before. One that is not there or has a mistake is told in the log, once."""
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            return read_auth(self.path)
        except SpecError as error:
            log.error("who may open the page stays as it was: %s", error)
            return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def new_token() -> tuple[str, str]:
    """A token and its SHA-256."""
    token = secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> str:
    """What is kept of a token. It has 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()

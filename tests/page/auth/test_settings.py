"""The file that says who may open the page: each mistake is named by its key, and no token is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.alarms.health.address import read_address
from anomaly.errors import SpecError
from anomaly.page.auth.settings import digest, new_token, read_auth
from anomaly.page.serve import auth_of

TOKEN = f'[[token]]\nname = "ada"\nrole = "view"\nsha256 = "{digest("t")}"\n'
OIDC = '[oidc]\nissuer = "https://id.example"\nclient_id = "c"\nroles = {g = "view"}\n'


def read(tmp_path: Path, text: str) -> object:
    file = tmp_path / "page.toml"
    file.write_text(text, encoding="utf-8")
    return read_auth(file)


def test_tokens_and_an_issuer_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, f'url = "https://p.example/"\nproxies = ["127.0.0.1", "10.0.0.0/8"]\n{TOKEN}{OIDC}')
    assert found.url == "https://p.example"  # type: ignore[attr-defined]
    assert found.token[0].role == "view"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names nobody"),
        (TOKEN.replace("view", "root"), "token.0.role"),
        (TOKEN + "rol = 1\n", "did you mean `role`"),
        (f"sesion_h = 1\n{TOKEN}", "did you mean `session_h`"),
        (f"session_h = 0\n{TOKEN}", "session_h"),
        (f'proxies = ["proxy"]\n{TOKEN}', "proxies"),
        (f'url = "http://plant.example"\n{TOKEN}', "https"),
        (f'url = "plant.example"\n{TOKEN}', "https://plant.example"),
        (OIDC, "`url`"),
        (f'url = "https://p.example"\n{OIDC.replace("https", "http")}', "oidc.issuer"),
        (f'url = "https://p.example"\n{OIDC.replace("view", "root")}', "oidc.roles"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=r"page\.toml") as error:
        read(tmp_path, text)
    assert words in str(error.value)


def test_a_token_that_was_written_where_its_hash_belongs_is_not_repeated(tmp_path: Path) -> None:
    token, _ = new_token()
    with pytest.raises(SpecError, match="number 1, key `sha256`") as error:
        read(tmp_path, TOKEN.replace(digest("t"), token))
    assert token not in str(error.value)


def test_a_page_that_others_reach_needs_the_file(tmp_path: Path) -> None:
    (tmp_path / "page.toml").write_text(TOKEN)
    for own in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        found = auth_of(read_address(own), None)
        assert found is not None
        assert found.own is not None
    for others in ("0.0.0.0:1", "[::]:1", "10.0.0.7:1"):
        assert auth_of(read_address(others), None) is None
        found = auth_of(read_address(others), tmp_path / "page.toml")
        assert found is not None
        assert found.own is None

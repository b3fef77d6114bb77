"""A small issuer of OpenID Connect that really answers over HTTP, and can be told to do wrong."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from anomaly.page.auth.oidc import challenge

CLIENT, SECRET = "the page", "s3cret/+ %"


class Issuer:
    """`claims` go into the next identity token, over those that it has of itself; `sign` makes it."""

    def __init__(self) -> None:
        self.keys = {"k1": rsa.generate_private_key(65537, 2048)}
        self.claims: dict[str, Any] = {"preferred_username": "ada", "groups": ["shift"]}
        self.about: dict[str, Any] = {}
        self.asked: list[str] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.sign = self._sign
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                issuer.asked.append(parts.path)
                if parts.path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", issuer.authorize({k: v[0] for k, v in parse_qs(parts.query).items()}))
                    self.end_headers()
                else:
                    self.answer(200, issuer.known() if "openid-configuration" in parts.path else issuer.jwks())

            def do_POST(self) -> None:
                issuer.asked.append(self.path)
                form = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
                self.answer(*issuer.token(form, self.headers.get("Authorization", "")))

            def answer(self, status: int, body: dict[str, Any]) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Free its port: who asks is refused from now on."""
        self.server.shutdown()
        self.server.server_close()

    def known(self) -> dict[str, Any]:
        """What it says of itself."""
        return {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        } | self.about  # fmt: skip

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        made = [
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": id_, "use": "sig"} for id_, key in self.keys.items()
        ]
        return {"keys": made}

    def authorize(self, asked: dict[str, str]) -> str:
        """Someone has signed in there: the address to go back to."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """An identity token for a code, once, for the client who can show the verifier."""
        asked = self.codes.pop(form["code"], None)
        kind, _, pair = authorization.partition(" ")
        name, _, secret = base64.b64decode(pair).decode().partition(":") if kind == "Basic" else ("", "", "")
        if (unquote(name), unquote(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        if asked is None or challenge(form["code_verifier"]) != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        own = {"iss": self.url, "aud": CLIENT, "sub": "u1", "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": self.sign(own | self.claims)}

    def _sign(self, claims: dict[str, Any]) -> str:
        id_, key = list(self.keys.items())[-1]
        return jwt.encode(claims, key, "RS256", headers={"kid": id_})

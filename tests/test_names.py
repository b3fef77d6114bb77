"""Text from outside: nothing in it forges a line, moves what a terminal shows, or gives a password away."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.cli.terminal import console
from anomaly.cli.terminal.log import LogFormat, TerminalHandler
from anomaly.errors import DataError
from anomaly.names import masked, one_line, record_name, shown

ANY = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF))  # lone surrogates too
SECRET = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8)
HOST = st.sampled_from(["10.0.0.7", "cam.plant.example", "[fe80::1]", "localhost"])


def test_every_character_that_cannot_be_seen_is_escaped() -> None:
    every = set(map(chr, range(sys.maxunicode + 1)))
    escaped = {character for character in every if one_line(character) != character}
    hidden = {character for character in every if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert hidden - escaped == {"\u200c", "\u200d"}
    assert {unicodedata.category(character) for character in escaped - hidden} <= {"Cn"}  # known to a later Unicode than this Python's


@given(ANY)
def test_one_line_is_one_printable_line_and_stays_as_it_is(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    line.encode()
    assert one_line(line) == line


@given(ANY, ANY)
def test_two_paths_never_have_the_same_name(one: str, other: str) -> None:
    assert (record_name(one) == record_name(other)) == (one == other)


@given(st.sampled_from(["rtsp", "mqtt", "opc.tcp", "HTTPS", "redis"]), st.text(), SECRET, HOST, st.sampled_from(["", ":554"]), ANY, ANY)
def test_no_password_of_an_address_is_shown(scheme: str, user: str, secret: str, host: str, port: str, before: str, after: str) -> None:
    text = f"{before} {scheme}://{quote(user, safe='')}:pw-{secret}@{host}{port}/1 {after}"
    assert f"pw-{secret}@" not in masked(text)
    assert masked(masked(text)) == masked(text)
    assert f"pw-{secret}@" not in shown(text)


@given(st.from_regex(r"[a-z]+", fullmatch=True), HOST, st.integers(1, 65535), st.from_regex(r"(/[a-z0-9@:._-]*)?", fullmatch=True))
def test_an_address_without_a_password_stays_as_it_is(user: str, host: str, port: int, path: str) -> None:
    for text in (f"http://{user}@{host}:{port}{path}", f"http://{host}:{port}{path}", f"mqtt://{host}{path.replace(':', '')}"):
        assert masked(text) == text


@pytest.mark.parametrize(
    "address",
    ["rtsp://admin:a/S3cretPass@cam/1", "rtsp://admin:a?S3cretPass#@cam/1", "rtsp://admin:a S3cretPass@cam/1", "redis://:S3cretPass@host",
     "rtsp://admin:x@S3cretPass@cam/1", "https://plant/hook?token=S3cretPass&line=3", "https://plant/?x=1&API_KEY=S3cretPass",
     "mqtt://a:S3cretPass@b,mqtt://a:S3cretPass@c", "postgresql://me:12/S3cretPass@h/db", "postgresql+psycopg://me@srv:S3cretPass@h/db",
     "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3DS3cretPass%3BEncrypt%3Dyes",
     "DRIVER={x};UID=me;PWD={a;S3cretPass};Encrypt=yes",
     "host=h user=me password=S3cretPass dbname=plant", r"host=h password='a\'S3cretPass' user=me", "jdbc:sqlserver://h:1433;password=S3cretPass;x=y",
     "postgresql://h/db?user=me&password=a;#'S3cretPass", "DRIVER={x};UID=me;Pwd = a S3cretPass;Encrypt=yes"],
)  # fmt: skip
def test_passwords_as_people_write_them(address: str) -> None:
    assert "S3cret" not in masked(address)
    assert "S3cret" not in masked(f"source {address}: away, url='{address}' ({address!r})")


DATABASES = ["postgresql", "postgresql+psycopg", "mysql+pymysql", "mssql+pyodbc", "oracle+oracledb", "sqlite", "duckdb"]
TYPED = {  # how a password is written into a database's address, and the letters it can hold there
    "{scheme}://me:{quoted}@historian:5432/plant": st.text(),
    "{scheme}://me:{raw}@historian/plant": st.from_regex(r"[A-Za-z0-9/?#!%+=&;_.-]{4,20}", fullmatch=True),
    "{scheme}://me@plant:{raw}@historian/plant": st.from_regex(r"[A-Za-z][A-Za-z0-9!+=&;_.-]{3,20}", fullmatch=True),
    "{scheme}://historian/plant?user=me&password={quoted}&sslmode=require": st.text(),
    "{scheme}://historian/plant?user=me&password={raw}": st.from_regex(r"[A-Za-z0-9/?#!:;@_.-]{4,20}", fullmatch=True),
    "{scheme}:///?odbc_connect=DRIVER%3D%7B18%7D%3BUID%3Dme%3BPWD%3D{quoted}%3Bx%3Dy": st.text().filter(lambda text: ";" not in text),
    "{scheme}:///?odbc_connect=DRIVER%3Dodbc%3BUID%3Dme%3BPWD%3D%7B{quoted}%7D": st.text().filter(lambda text: "}" not in text),
    "{scheme}:///?odbc_connect=DRIVER={{ODBC 18}};UID=me;PWD={raw};": st.from_regex(r"[A-Za-z0-9 /?#!:@_.-]{4,20}", fullmatch=True),
    "host=historian user=me password={raw} dbname=plant": st.from_regex(r"[A-Za-z0-9/?#!:;&@_.-]{4,20}", fullmatch=True),
    "host=historian password = '{raw}' dbname=plant": st.from_regex(r"[A-Za-z0-9 /?#!:;&@_.-]{4,20}", fullmatch=True),
    "jdbc:sqlserver://historian:1433;user=me;password={raw};encrypt=true": st.from_regex(r"[A-Za-z0-9/?#!:&@_.-]{4,20}", fullmatch=True),
}  # fmt: skip


@pytest.mark.parametrize("form", TYPED)
@given(st.data())
def test_no_password_of_a_database_is_shown(form: str, data: st.DataObject) -> None:
    scheme, password = data.draw(st.sampled_from(DATABASES)), "Q7" + data.draw(TYPED[form]) + "x7Q"
    quoted = quote(password, safe="")
    address = form.format(scheme=scheme, raw=password, quoted=quoted)
    for text in (masked(address), shown(address), masked(f"{address}: the query failed"), masked(f"[{address!r}] is away")):
        assert quoted not in text
        assert password not in text
        assert masked(text) == text
    said = masked(f'could not translate host name "{password}", nor {quoted} of {address}', address)
    assert password not in said
    assert quoted not in said


def test_a_long_hostile_text_takes_no_long_time() -> None:
    started = time.process_time()
    for text in (
        "://a:" * 40_000,
        "a" * 400_000,
        "?token" * 60_000 + "://",
        "://" + ":@" * 100_000,
        "x://" + "a" * 400_000 + ":",
        "postgres" * 50_000,
        ";pwd=" * 80_000,
        "password=" * 40_000,
        "mysql://" * 50_000,
        "pwd={" * 80_000,
        "a@b:" * 90_000,
    ):
        shown(text)  # fmt: skip
    assert time.process_time() - started < 20  # squares of these lengths take hours


def test_an_error_is_one_line_for_each_of_its_arguments() -> None:
    assert str(DataError("a.csv\nall is well: gone", "see rtsp://me:S3cret@cam")) == "a.csv\\x0aall is well: gone\nsee rtsp://me:***@cam"


def test_the_console_obeys_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(console.out, "_file", seen)  # `file` is a property: undone, it would stay what it was here
    console.out.print("a\x1b]0;title\x07 rtsp://me:S3cret@cam\nb \u202e")
    assert seen.getvalue() == "a\\x1b]0;title\\x07 rtsp://me:***@cam\nb \\u202e\n"


def test_json_on_the_console_is_the_same_to_a_program_and_obeyed_by_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, value = io.StringIO(), {"line": "压机 3 \u202egnp.\x9b31m\U000e0041", "about": ["two\nlines", 0.5, None]}
    monkeypatch.setattr(console.out, "_file", seen)
    console.out.print_json(json.dumps(value))
    assert json.loads(seen.getvalue()) == value
    assert "压机 3 \\u202egnp.\\u009b31m" in seen.getvalue()
    assert not set("\u202e\x9b\U000e0041") & set(seen.getvalue())


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_line_of_the_log_is_one_line(form: LogFormat) -> None:
    record = logging.LogRecord("anomaly", logging.INFO, "", 0, "away: %s", ("a\n12:00 alarm over\x1b[2J rtsp://me:S3cret@cam",), None)
    record.line = "press\n3"
    (text,) = TerminalHandler(form, "box").texts(record)
    assert text.isprintable()
    assert "S3cret" not in text

"""Who may talk to the studio, and what nobody gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from solovox.errors import SolovoxError
from solovox.studio.guard import check_token, is_loopback

from .conftest import Client

Start = Callable[..., Client]
TOKEN = "a-long-enough-token"


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:{}", True), ("localhost:{}", True), ("LOCALHOST:{}", True), ("[::1]:{}", True),
        ("evil.example:{}", False), ("127.0.0.1.evil.example:{}", False), ("", False),
        ("localhost.evil.example", False), ("127.0.0.1@evil.example", False), ("[bad", False),
    ],
)  # fmt: skip
def test_names_of_others_are_refused(start: Start, host: str, good: bool) -> None:
    client = start()
    given = {"Host": host.format(client.studio.port)}
    assert client.raw("GET", "/api/songs", headers=given)[0] in ((200,) if good else (421, 400))
    assert client.raw("GET", "/", headers=given)[0] in ((200,) if good else (421, 400))


def test_writes_from_elsewhere_are_refused(start: Start, file: Path) -> None:
    client = start()
    song = client.upload(file, separate=False)
    own = f"http://127.0.0.1:{client.studio.port}"
    path = f"/api/songs/{song['id']}"
    for origin in ("http://evil.example", "null", "", "http://127.0.0.1:1", f"{own}.evil.example"):
        for method in ("POST", "PATCH", "DELETE"):
            assert client.raw(method, path, headers={"Origin": origin})[0] == 403
    for site in ("cross-site", "same-site"):
        assert client.raw("DELETE", path, headers={"Sec-Fetch-Site": site})[0] == 403
        assert client.raw("GET", path, headers={"Sec-Fetch-Site": site})[0] == 403
    assert client.song(song["id"]) == song
    given = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert client.raw("DELETE", path, headers=given)[0] == 204


def test_no_answer_invites_other_sites(start: Start) -> None:
    client = start()
    for path in ("/", "/api/songs", "/nothing", "/api/songs/000000000000"):
        _, _, headers = client.raw("GET", path, headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_token_is_needed_everywhere(start: Start) -> None:
    client = start(token=TOKEN)
    client.headers.clear()
    for path in ("/", "/main.js", "/api/songs", "/api/openapi.json", "/?token=wrong", "/?token="):
        assert client.raw("GET", path)[0] == 401
    for bearer in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert client.raw("GET", "/api/songs", headers={"Authorization": bearer})[0] == 401
    assert client.raw("GET", f"/api/songs?token={TOKEN}")[0] == 401
    given = {"Authorization": f"Bearer {TOKEN}", "Host": "studio.example"}
    assert client.raw("GET", "/api/songs", headers=given)[0] == 200

    status, _, headers = client.raw("GET", f"/?token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    given = {"Cookie": cookie.split(";")[0]}
    assert client.raw("GET", "/", headers=given)[0] == 200
    assert client.raw("GET", "/api/songs", headers=given)[0] == 200
    origin = {**given, "Origin": "http://evil.example"}
    assert client.raw("POST", "/api/songs", headers=origin)[0] == 403


def test_other_addresses_need_a_token(start: Start) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "studio.example"):
        with pytest.raises(SolovoxError, match="needs a --token"):
            check_token(host, None)
        check_token(host, TOKEN)
    for host in ("127.0.0.1", "0.0.0.0"):
        for token in ("", "short", "ünicode-is-not-a-header"):
            with pytest.raises(SolovoxError, match="12 plain characters"):
                check_token(host, token)
    check_token("127.0.0.1", None)
    assert is_loopback("::1")
    assert not is_loopback("127.0.0.1.evil.example")
    client = start(host="0.0.0.0")  # one is made
    assert len(client.studio.token or "") >= 20
    assert f"?token={client.studio.token}" in client.studio.url
    assert client.raw("GET", "/api/songs")[0] == 200
    client.headers.clear()
    assert client.raw("GET", "/api/songs")[0] == 401
    with pytest.raises(SolovoxError, match="12 plain characters"):
        start(host="0.0.0.0", token="", work=client.studio.library.work / "other")


@pytest.mark.parametrize(
    "path",
    [
        "/../api.py", "/..%2fapi.py", "/%2e%2e/api.py", "/vendor/../../api.py", "/....//api.py",
        "/api/songs/../../../etc/passwd", "/api/songs/..%2f..%2fetc%2fpasswd",
        "/api/songs/SONG/tracks/..%2fstate/peaks", "/api/songs/SONG/tracks/mixture/..%2fstate.json",
        "/api/songs/SONG/tracks/..%2f..%2fx.vocals/samples",
        "/api/songs/SONG/takes/..%2f../stems/vocals", "/api/songs/SONG/takes/%00/stems/vocals",
        "/api/songs/SONG/takes/000000000000/stems/vocals?format=../../x",
        "/etc/passwd", "//etc/passwd", "/%5c..%5capi.py", "/docs", "/redoc",
    ],
)  # fmt: skip
def test_no_path_leads_out(start: Start, file: Path, path: str) -> None:
    client = start()
    song = client.upload(file, separate=False)
    status, body, _ = client.raw("GET", path.replace("SONG", song["id"]))
    assert status in (400, 404, 422)
    assert b"root:" not in body
    assert b"def make_app" not in body

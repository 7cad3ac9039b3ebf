"""The gate: who gets in, what browsers cannot do, and what is refused before anything reads it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import anyio
import httpx
import pytest
from api_house import NOW, Client, House, seeded

from aiops.api.auth import Role, check_bind, identify, is_loopback, load_tokens
from aiops.errors import ConfigError
from aiops.settings import Listen, Settings

KILL = b'{"kind": "kill"}'


def line(name: str, role: str, secret: str, more: str = "") -> str:
    return f"{name}:{role}:{sha256(secret.encode()).hexdigest()}{more}"


@pytest.fixture
def guarded(tmp_path: Path) -> House:
    """A house with three tokens, one of which expired the day before."""
    path = tmp_path / "tokens"
    lines = [
        "# who may call",
        line("vera", "viewer", "v" * 40),
        line("olga", "operator", "o" * 40),
        line("ada", "admin", "a" * 40),
    ]
    path.write_text("\n".join([*lines, "", line("gone", "admin", "g" * 40, ":2026-09-20")]) + "\n")
    house = House(store=seeded())
    house.settings = Settings(listen=Listen(host="0.0.0.0", token_file=path))
    return house


def bearer(letter: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {letter * 40}"}


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready", "/", "/static/js/main.js", "/favicon.ico"])
def test_health_and_the_empty_page_need_no_token(guarded: House, path: str) -> None:
    assert Client(guarded).get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/raw", "/api/v1/nodes", "/api/v1/config", "/api/v1/openapi.json", "/api/v1/keda/chat", "/nope",
     "/static", "//static/js/main.js", "/-/healthy/"],
)  # fmt: skip
def test_everything_else_does(guarded: House, path: str) -> None:
    answer = Client(guarded).get(path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("authorization", "why"),
    [
        ("", "nothing"),
        ("Bearer ", "an empty token"),
        ("Bearer wrong", "a wrong token"),
        (f"Basic {'a' * 40}", "another scheme"),
        ("a" * 40, "no scheme"),
        (f"Bearer {'g' * 40}", "an expired token"),
        (f"Bearer {sha256(b'a' * 40).hexdigest()}", "the stored hash instead of the token"),
    ],
)
def test_a_token_that_proves_nothing_is_refused(guarded: House, authorization: str, why: str) -> None:
    assert Client(guarded).get("/api/v1/nodes", Authorization=authorization).status_code == 401, why


ROLES = [
    ("v", "GET", "", 200), ("o", "GET", "", 200), ("a", "GET", "", 200),
    ("v", "POST", "kill", 403), ("o", "POST", "kill", 201), ("a", "POST", "kill", 201),
    ("o", "POST", "unkill", 403), ("a", "POST", "unkill", 201),
    ("o", "POST", "pause", 201), ("o", "POST", "reset_breaker", 403), ("a", "POST", "reset_breaker", 201),
]  # fmt: skip


@pytest.mark.parametrize(("letter", "method", "kind", "status"), ROLES)
def test_operators_may_stop_and_only_admins_may_loosen(
    guarded: House, letter: str, method: str, kind: str, status: int
) -> None:
    body = f'{{"kind": "{kind}"}}'.encode() if kind else None
    assert Client(guarded).send(method, "/api/v1/orders", body, **bearer(letter)).status_code == status
    if status == 403:
        assert guarded.killed == [] and len(guarded.store.given) == 1


def test_the_audit_row_names_the_caller(guarded: House) -> None:
    Client(guarded).send("POST", "/api/v1/orders", KILL, **bearer("o"))
    assert guarded.store.given[-1].by == "olga"


def test_without_tokens_a_write_needs_the_header_that_a_foreign_page_cannot_send() -> None:
    house = House(store=seeded())
    client = Client(house)
    assert client.send("POST", "/api/v1/orders", KILL).json()["code"] == "missing_header"
    assert client.post("/api/v1/orders", KILL, **{"Sec-Fetch-Site": "cross-site"}).json()["code"] == "cross_site"
    assert house.killed == []
    assert client.post("/api/v1/orders", KILL).status_code == 201


HOSTS = [
    ("localhost", 200), ("localhost:8080", 200), ("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("[::1]", 200),
    ("evil.example", 403), ("evil.example:8080", 403), ("localhost.evil.example", 403), ("", 403),
    ("127.0.0.1.evil.example", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_a_rebound_name_is_refused_on_loopback(host: str, status: int) -> None:
    assert Client(House(store=seeded())).get("/api/v1/nodes", Host=host).status_code == status


def test_a_huge_declared_body_is_refused_unread() -> None:
    answer = Client(House()).post("/api/v1/orders", b"", **{"Content-Length": str(10**9)})
    assert answer.status_code == 413


def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    house = House()

    async def drip() -> object:
        async def chunks() -> object:
            for _ in range(100):
                yield b"x" * 1024

        async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app()), base_url="http://localhost") as client:
            return await client.post("/api/v1/orders", content=chunks(), headers={"X-Aiops-Request": "1"})  # type: ignore[arg-type]

    answer = anyio.run(drip)
    assert isinstance(answer, httpx.Response)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-Long": "x" * 20_000}, 431), ({"Content-Length": "-1"}, 400), ({"Content-Length": "1e3"}, 400)],
)
def test_odd_headers_are_refused(headers: dict[str, str], status: int) -> None:
    assert Client(House()).get("/api/v1/version", **headers).status_code == status


def test_an_endless_address_is_refused() -> None:
    assert Client(House()).get("/api/v1/nodes?after=" + "x" * 9000).status_code == 414


def test_every_answer_carries_the_security_headers() -> None:
    for path in ("/", "/api/v1/version", "/nope"):
        headers = Client(House()).get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
    assert Client(House()).get("/api/v1/version").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "refused"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("::", True), ("10.0.0.5", True),
     ("gpu-01", True)],
)  # fmt: skip
def test_a_bind_beyond_this_machine_needs_tokens(host: str, refused: bool) -> None:
    settings = Settings(listen=Listen(host=host))
    assert is_loopback(host) is not refused
    if not refused:
        return check_bind(settings)
    with pytest.raises(ConfigError, match="token_file"):
        check_bind(settings)
    return None


WRONG_FILES = [
    ("", "at least one line"),
    ("# only a comment\n", "at least one line"),
    ("ann:root:" + "0" * 64, "name:role:sha256"),
    ("ann:admin:secret-in-clear", "name:role:sha256"),
    ("ok:viewer:" + "0" * 64 + "\nbroken", ":2"),
    ("ann:admin:" + "0" * 64 + ":2026-13-45", "YYYY-MM-DD"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG_FILES)
def test_a_wrong_token_file_is_one_line_that_says_where(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_tokens(path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert "secret-in-clear" not in str(caught.value)


def test_a_missing_token_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_tokens(tmp_path / "none")


def test_a_token_is_good_through_its_last_day(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(line("ann", "viewer", "s", ":2026-09-21"))
    tokens = load_tokens(path)
    midnight = 1_790_035_200.0  # 2026-09-22 00:00 UTC
    assert midnight > NOW
    found = identify(tokens, "Bearer s", midnight - 1)
    assert found is not None and found.role is Role.VIEWER
    assert identify(tokens, "Bearer s", midnight) is None

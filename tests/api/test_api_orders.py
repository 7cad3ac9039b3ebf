"""Orders: audited first, once per key, and never a 500 whatever the body."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from api_house import NOW, Client, FakeStore, House, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.action import Order, OrderKind
from aiops.errors import Permanent, Unreadable


@pytest.fixture
def house() -> House:
    return House(store=seeded())


def given_orders(house: House) -> list[Order]:
    return [order for order in house.store.given if order.id != "o-1"]


def test_an_order_is_kept_with_who_what_and_until_when(house: House) -> None:
    body = b'{"kind": "silence", "target": "job/8814", "duration": "30m", "note": "known"}'
    answer = Client(house).post("/api/v1/orders", body)
    assert answer.status_code == 201
    (order,) = given_orders(house)
    assert (order.kind, order.target, order.until, order.note) == (OrderKind.SILENCE, "job/8814", NOW + 1800, "known")
    assert answer.json()["order"]["id"] == order.id


def test_a_mode_order_names_policy_and_mode(house: House) -> None:
    body = b'{"kind": "set_mode", "target": "prescale", "mode": "advise"}'
    assert Client(house).post("/api/v1/orders", body).status_code == 201
    assert given_orders(house)[0].target == "prescale=advise"
    assert Client(house).get("/api/v1/status").json()["modes"] == {"prescale": "advise"}


def test_the_kill_switch_engages_and_releases(house: House) -> None:
    client = Client(house)
    assert client.post("/api/v1/orders", b'{"kind": "kill"}').json()["halted"] is True
    assert client.post("/api/v1/orders", b'{"kind": "unkill"}').json()["halted"] is False
    assert house.killed == [True, False]
    assert [order.kind for order in given_orders(house)] == [OrderKind.KILL, OrderKind.UNKILL]


class Unwritable(FakeStore):
    """Reads work, the audit does not."""

    error: Exception = Unreadable("disk is full")

    def put_order(self, order: Order) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Unreadable("disk is full"), Permanent("read-only database")])
def test_without_an_audit_row_there_is_no_2xx_but_the_kill_switch_holds(error: Exception) -> None:
    store = Unwritable()
    store.error = error
    house = House(store=store)
    answer = Client(house).post("/api/v1/orders", b'{"kind": "kill"}')
    assert (answer.status_code, answer.json()["code"]) == (503, "audit_failed")
    assert "IS engaged" in answer.json()["detail"]
    assert house.killed == [True]


def test_without_an_audit_row_the_kill_switch_is_not_released() -> None:
    house = House(store=Unwritable())
    assert Client(house).post("/api/v1/orders", b'{"kind": "unkill"}').status_code == 503
    assert house.killed == []


def test_the_kill_switch_engages_with_the_whole_database_gone(house: House) -> None:
    client = Client(house)
    house.store.broken = True
    assert client.post("/api/v1/orders", b'{"kind": "kill"}', **{"Idempotency-Key": "k"}).status_code == 503
    assert house.killed == [True]


KEY = {"Idempotency-Key": "key-1"}
PAUSE = b'{"kind": "pause", "target": "prescale"}'


def test_the_same_key_and_body_have_one_effect_and_one_answer(house: House) -> None:
    client = Client(house)
    first = client.post("/api/v1/orders", PAUSE, **KEY)
    house.clock.advance(60)
    second = Client(house).post("/api/v1/orders", PAUSE, **KEY)  # another process: what was answered lies in the store
    assert first.content == second.content and second.status_code == 201
    assert len(given_orders(house)) == 1


def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    client = Client(house)
    client.post("/api/v1/orders", PAUSE, **KEY)
    answer = client.post("/api/v1/orders", b'{"kind": "pause"}', **KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(given_orders(house)) == 1


def test_different_keys_are_different_orders(house: House) -> None:
    client = Client(house)
    for key in ("a", "b"):
        client.post("/api/v1/orders", PAUSE, **{"Idempotency-Key": key})
    assert len({order.id for order in given_orders(house)}) == 2


def test_a_crash_between_audit_and_answer_leaves_one_order_id(house: House) -> None:
    Client(house).post("/api/v1/orders", PAUSE, **KEY)
    house.store.blobs.clear()  # the answer was never kept
    house.clock.advance(5)
    Client(house).post("/api/v1/orders", PAUSE, **KEY)
    assert len({order.id for order in given_orders(house)}) == 1  # the store keeps a known id as it is


def test_a_kill_repeated_after_its_unkill_holds_and_is_an_order_of_its_own(house: House) -> None:
    client = Client(house)
    client.post("/api/v1/orders", b'{"kind": "kill"}', **KEY)
    assert client.post("/api/v1/orders", b'{"kind": "kill"}', **KEY).json()["halted"] is True
    assert len(given_orders(house)) == 1, "engaged already: a mere repeat"
    client.post("/api/v1/orders", b'{"kind": "unkill"}')
    house.clock.advance(5)
    assert client.post("/api/v1/orders", b'{"kind": "kill"}', **KEY).json()["halted"] is True
    assert [order.kind for order in given_orders(house)] == [OrderKind.KILL, OrderKind.UNKILL, OrderKind.KILL]


def test_concurrent_twins_execute_once(house: House) -> None:
    client, answers = Client(house), []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/api/v1/orders", PAUSE, **KEY).content)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given_orders(house)) == 1
    assert len(set(answers)) == 1 and len(answers) == 8


BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "nothing"),
    (b"{", 400, "cut off"),
    (b"\xff\xfe", 400, "not UTF-8"),
    (b'{"kind": "kill", "note": "\xc3\x28"}', 400, "invalid UTF-8 inside"),
    (b'{"duration": NaN, "kind": "pause"}', 400, "NaN is not JSON"),
    (b'{"duration": Infinity, "kind": "pause"}', 400, "Infinity is not JSON"),
    (b'{"duration": 1e999, "kind": "pause"}', 400, "beyond a double"),
    (b'{"kind": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "deep nesting"),
    (b'{"duration": ' + b"9" * 5000 + b', "kind": "pause"}', 400, "a huge integer"),
    (b"[]", 422, "not an object"),
    (b'"kill"', 422, "a bare text"),
    (b"{}", 422, "no kind"),
    (b'{"kind": "destroy"}', 422, "an unknown kind"),
    (b'{"kind": ["kill"]}', 422, "a list as kind"),
    (b'{"kind": "kill", "force": true}', 422, "an unknown key"),
    (b'{"kind": "pause", "duration": -5}', 422, "negative"),
    (b'{"kind": "pause", "duration": "soon"}', 422, "not a duration"),
    (b'{"kind": "pause", "duration": "nan"}', 422, "NaN by way of text"),
    (b'{"kind": "silence"}', 422, "no target: empty must not mean all"),
    (b'{"kind": "silence", "target": "  "}', 422, "a blank target"),
    (b'{"kind": "silence", "target": "a\\u0000b"}', 422, "a control character"),
    (b'{"kind": "set_mode", "target": "prescale"}', 422, "no mode"),
    (b'{"kind": "set_mode", "target": "nobody", "mode": "act"}', 422, "an unknown policy"),
    (b'{"kind": "pause", "mode": "act"}', 422, "a mode that does not belong"),
    (b'{"kind": "approve", "target": "nope"}', 404, "an unknown decision"),
    (b'{"kind": "kill", "note": "' + b"x" * 2000 + b'"}', 422, "an endless note"),
]


@pytest.mark.parametrize(("body", "status", "why"), BODIES, ids=[row[2] for row in BODIES])
def test_a_wrong_body_is_a_4xx_and_no_order(house: House, body: bytes, status: int, why: str) -> None:
    answer = Client(house).post("/api/v1/orders", body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert given_orders(house) == []


@pytest.mark.parametrize("key", ["", "a b", "x" * 200])
def test_an_odd_key_is_refused(house: House, key: str) -> None:
    assert Client(house).post("/api/v1/orders", PAUSE, **{"Idempotency-Key": key}).status_code == 400
    assert given_orders(house) == []


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values: st.SearchStrategy[Any] = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200) | json_values.map(lambda value: repr(value).replace("'", '"').encode("utf-8", "replace")))
def test_no_body_makes_the_server_fail(body: bytes) -> None:
    house = House()
    assert 400 <= Client(house).post("/api/v1/orders", body).status_code < 500
    assert house.store.given == []


class FullDisk(House):
    """A house whose kill switch engages in memory and cannot write its file."""

    def kill(self, engaged: bool) -> None:
        super().kill(engaged)
        raise OSError(28, "No space left on device")


def test_a_kill_switch_that_would_not_outlast_a_restart_says_so_and_holds() -> None:
    house = FullDisk(store=seeded())
    answer = Client(house).post("/api/v1/orders", b'{"kind": "kill"}')
    assert answer.status_code == 503
    assert "IS engaged" in answer.text
    assert house.status.halted

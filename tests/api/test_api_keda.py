"""The KEDA answer: exact fields, and a 503 whenever the figure cannot be trusted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from api_house import LOAD, NOW, Client, House, forecast, seeded
from hypothesis import given
from hypothesis import strategies as st

from aiops.api import recommend
from aiops.api.problem import Problem
from aiops.model import Forecast, Service


@pytest.fixture
def house() -> House:
    return House(store=seeded())


def test_the_answer_has_exactly_the_agreed_fields(house: House) -> None:
    house.store.made.append(forecast(str(LOAD), NOW - 21, 150.0))
    answer = Client(house).get("/api/v1/keda/chat").json()
    assert set(answer) == {"value", "desired_replicas", "horizon_seconds", "quantile", "generated_at", "age_seconds", "fresh"}
    assert (answer["horizon_seconds"], answer["quantile"], answer["age_seconds"], answer["fresh"]) == (600.0, 0.9, 21.0, True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer["generated_at"])
    assert answer["desired_replicas"] == int(np.ceil(answer["value"] / 40.0))
    assert isinstance(answer["desired_replicas"], int)


def put(house: House, made: Forecast) -> None:
    house.store.made.append(made)


FRESH = forecast(str(LOAD), NOW - 1, 150.0)
BREAKS: dict[str, Callable[[House], object]] = {
    "kill switch": lambda house: setattr(house, "status", replace(house.status, halted=True)),
    "no forecast": lambda house: house.store.made.clear(),
    "stale forecast": lambda house: setattr(house.store, "made", [forecast(str(LOAD), NOW - 901, 150.0)]),
    "forecast from the future": lambda house: put(house, forecast(str(LOAD), NOW + 120, 150.0)),
    "refused forecast": lambda house: put(house, replace(FRESH, refused="coverage is 0.71")),
    "negative forecast": lambda house: put(house, replace(FRESH, values=-FRESH.values)),
    "NaN forecast": lambda house: put(house, replace(FRESH, values=FRESH.values * np.nan)),
    "short forecast": lambda house: put(house, replace(FRESH, times=FRESH.times[:1], values=FRESH.values[:, :1])),
    "no points at all": lambda house: put(house, replace(FRESH, times=FRESH.times[:0], values=FRESH.values[:, :0])),
    "stale cluster": lambda house: (house.clock.advance(120), put(house, forecast(str(LOAD), NOW + 119, 150.0))),
    "no cycle": lambda house: house.store.snapshots.clear(),
    "store gone": lambda house: setattr(house.store, "broken", True),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_cannot_be_trusted_is_503_and_never_a_number(house: House, what: str) -> None:
    client = Client(house)
    BREAKS[what](house)
    answer = client.get("/api/v1/keda/chat")
    assert answer.status_code == 503, (what, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "desired_replicas" not in answer.text and "value" not in answer.json()


def service(**changes: Any) -> Service:
    known: dict[str, Any] = {"min_replicas": 2, "max_replicas": 12, "target": 40.0} | changes
    return Service(name="s", uid="u", version="1", pool="p", replicas=3, ready=3, load=LOAD, **known)


ASK = recommend.Ask(max_age_s=900.0)


@given(
    level=st.floats(0, 1e12),
    target=st.floats(1e-9, 1e12),
    low=st.integers(0, 5),
    more=st.integers(0, 50),
    age=st.floats(0, 290),
)
def test_advice_stays_within_the_services_bounds(level: float, target: float, low: int, more: int, age: float) -> None:
    made = forecast(str(LOAD), NOW - age, level)
    advice = recommend.advise(service(min_replicas=low, max_replicas=low + more, target=target), made, ASK, NOW)
    assert low <= advice.replicas <= low + more


@given(level=st.floats(1, 1e6), factor=st.floats(1, 10))
def test_more_load_never_asks_for_fewer_replicas(level: float, factor: float) -> None:
    less = recommend.advise(service(), forecast(str(LOAD), NOW, level), ASK, NOW)
    more = recommend.advise(service(), forecast(str(LOAD), NOW, level * factor), ASK, NOW)
    assert more.replicas >= less.replicas


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan"), float("inf")])
def test_a_service_without_a_load_per_replica_gets_no_advice(target: float) -> None:
    with pytest.raises(Problem):
        recommend.advise(service(target=target), forecast(str(LOAD), NOW, 10.0), ASK, NOW)


@pytest.mark.parametrize(("horizon_s", "asked"), [(0.0, 3), (120.0, 3), (299.0, 3), (600.0, 10), (1500.0, 10)])
def test_the_step_that_the_horizon_ends_in_counts_wherever_it_ends(horizon_s: float, asked: int) -> None:
    made: Forecast = forecast(str(LOAD), NOW - 21, 100.0)
    values = made.values.copy()
    values[:, 2] = 400.0  # from 579 to 879 s ahead
    advice = recommend.advise(service(), replace(made, values=values), replace(ASK, horizon_s=horizon_s), NOW)
    assert advice.replicas == asked


def test_a_quantile_that_the_forecast_does_not_have_is_not_made_up_from_a_lower_one(house: House) -> None:
    house.store.made.append(FRESH)
    assert Client(house).get("/api/v1/keda/chat?quantile=0.95").status_code == 200
    assert Client(house).get("/api/v1/keda/chat?quantile=0.99").status_code == 503


def test_the_highest_load_on_the_way_counts_not_only_the_last() -> None:
    made: Forecast = forecast(str(LOAD), NOW, 100.0)
    values = made.values.copy()
    values[:, 0] = 400.0
    advice = recommend.advise(service(), replace(made, values=values), ASK, NOW)
    assert advice.replicas == 10

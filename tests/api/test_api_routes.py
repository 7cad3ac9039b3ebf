"""Read routes: what they answer over a living house, and how they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from api_house import LOAD, NOW, Client, House, forecast, seeded

from aiops.model import Series, SeriesKey


@pytest.fixture
def house() -> House:
    return House(store=seeded())


READS = [
    "/-/healthy", "/-/ready", "/metrics", "/metrics/predicted", "/metrics/raw", "/api/v1/version", "/api/v1/status",
    "/api/v1/config", "/api/v1/cluster", "/api/v1/nodes", "/api/v1/jobs", "/api/v1/services", "/api/v1/series",
    "/api/v1/series/latest?metric=gpu_up", "/api/v1/series/data?metric=gpu_up", "/api/v1/forecasts",
    "/api/v1/forecasts/one?target=service_requests_per_second%7Bservice%3D%22chat%22%7D",
    "/api/v1/forecasts/history?target=service_requests_per_second%7Bservice%3D%22chat%22%7D",
    "/api/v1/findings", "/api/v1/findings/history", "/api/v1/findings/f-io", "/api/v1/decisions", "/api/v1/decisions/a-0",
    "/api/v1/attribution",
    "/api/v1/entries", "/api/v1/reservations", "/api/v1/orders", "/api/v1/keda/chat", "/api/v1/openapi.json", "/",
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_reads_answer_200(house: House, path: str) -> None:
    assert Client(house).get(path).status_code == 200


def test_no_findings_before_the_first_diagnosis_is_not_an_all_clear() -> None:
    assert Client(House()).get("/api/v1/findings").json()["diagnosed_at"] is None
    assert Client(House(store=seeded())).get("/api/v1/findings").json()["diagnosed_at"] is not None


def test_not_ready_is_503_with_its_reason_while_health_stays_up(house: House) -> None:
    from aiops.api.status import Status

    house.status = Status(ready=False, reason="the first cycle has not run")
    client = Client(house)
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the first cycle has not run")
    assert client.get("/-/healthy").status_code == 200


WRONG = [
    ("/api/v1/nodes?limt=3", 400, "limt", "a misspelt parameter must not widen an answer"),
    ("/api/v1/status?x=1", 400, "x", "also where there are no parameters"),
    ("/api/v1/nodes?limit=0", 400, "limit", "bounded below"),
    ("/api/v1/nodes?limit=1001", 400, "limit", "bounded above"),
    ("/api/v1/nodes?limit=9" + "9" * 5000, 400, "limit", "a huge integer"),
    ("/api/v1/nodes?state=melted", 400, "state", "an unknown state"),
    ("/api/v1/decisions?since=nan", 400, "since", "NaN is not a time"),
    ("/api/v1/decisions?since=1e999", 400, "since", "infinity is not a time"),
    ("/api/v1/decisions?since=20&until=10", 400, "since", "an empty window is a mistake"),
    ("/api/v1/decisions?cursor=abc", 400, "cursor", "not a cursor"),
    ("/api/v1/decisions?cursor=nan:1", 400, "cursor", "a cursor with a time that is none"),
    ("/api/v1/series/data", 400, "metric", "required"),
    ("/api/v1/series/data?metric=a%22b", 400, "metric", "not a metric name"),
    ("/api/v1/series/data?metric=a&window=forever", 400, "window", "not a duration"),
    ("/api/v1/series/data?metric=a&window=-5m", 400, "window", "a negative duration"),
    ("/api/v1/series/data?metric=a&window=nan", 400, "window", "NaN as a duration"),
    ("/api/v1/series/data?metric=a&window=300d", 422, "step", "too many points: says which step would do"),
    ("/api/v1/series/data?metric=a&match=x=~(a%2B)%2B", 400, "match", "regular expressions can stall a thread"),
    ("/api/v1/series/data?metric=a&match=nonsense", 400, "match", "no operator"),
    ("/api/v1/keda/chat?quantile=0.1", 400, "quantile", "capacity for one future in ten is a mistake"),
]


@pytest.mark.parametrize(("path", "status", "key", "why"), WRONG, ids=[row[3] for row in WRONG])
def test_a_wrong_parameter_is_one_clear_problem(house: House, path: str, status: int, key: str, why: str) -> None:
    answer = Client(house).get(path)
    problem = answer.json()
    assert (answer.status_code, problem["key"]) == (status, key), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["expected"] and "Traceback" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/nope", "/api/v1/nope", "/api/v1/findings/nope", "/api/v1/decisions/nope", "/api/v1/forecasts/one?target=nope",
     "/api/v1/keda/nope", "/static/../auth.py", "/static/..%2fauth.py", "/static/nope.js"],
)  # fmt: skip
def test_what_is_not_there_is_a_404_problem(house: House, path: str) -> None:
    answer = Client(house).get(path)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_a_counters_forecast_is_found_under_the_counters_own_name(house: House) -> None:
    house.store.made.append(forecast('requests_per_s{service="chat"}', NOW - 60, 7.0))
    for route in ("one", "history"):
        found = Client(house).get(f"/api/v1/forecasts/{route}?target=requests_total%7Bservice%3D%22chat%22%7D").json()
        assert found["target"] == 'requests_per_s{service="chat"}'
        assert route == "one" or found["total"] == 1


def test_a_method_that_is_not_there_is_a_405_problem(house: House) -> None:
    assert Client(house).send("DELETE", "/api/v1/orders", None, **{"X-Aiops-Request": "1"}).status_code == 405


def test_a_store_that_does_not_answer_is_503_everywhere_and_health_stays_up(house: House) -> None:
    client = Client(house)
    house.store.broken = True
    for path in ("/api/v1/nodes", "/api/v1/series", "/api/v1/forecasts", "/api/v1/decisions", "/api/v1/keda/chat"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert client.get("/-/healthy").status_code == 200


def test_no_cycle_yet_says_so() -> None:
    answer = Client(House()).get("/api/v1/cluster")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_cycle")


def walk(client: Client, path: str) -> list[Any]:
    items: list[Any] = []
    join, cursor = ("&" if "?" in path else "?"), ""
    while True:
        page = client.get(path + cursor).json()
        items += page["items"]
        if page["next"] is None:
            return items
        name = "cursor" if ":" in page["next"] else "after"
        cursor = f"{join}{name}={page['next']}"


def test_pages_give_every_row_once(house: House) -> None:
    client = Client(house)
    assert [node["name"] for node in walk(client, "/api/v1/nodes?limit=2")] == ["gpu-00", "gpu-01", "gpu-02"]
    ids = [row["admission"]["id"] for row in walk(client, "/api/v1/decisions?limit=2")]
    assert ids == ["a-4", "a-3", "a-2", "a-1", "a-0"]


def test_rows_that_arrive_while_paging_do_not_shift_pages(house: House) -> None:
    client = Client(house)
    first = client.get("/api/v1/decisions?limit=2").json()
    row, cycle = house.store.admitted[0]
    from dataclasses import replace

    house.store.admitted.append((replace(row, id="new", at=NOW + 1), cycle))
    second = client.get(f"/api/v1/decisions?limit=2&cursor={first['next']}").json()
    assert [item["admission"]["id"] for item in second["items"]] == ["a-2", "a-1"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("policy=remedy", ["a-3", "a-2"]),
        ("action=cordon", ["a-3"]),
        ("target=service/chat", ["a-4", "a-1", "a-0"]),
        ("denied=cooldown", ["a-1"]),
        ("permitted=true", ["a-0"]),
        ("permitted=false&policy=prescale", ["a-4", "a-1"]),
        ("policy=nobody", []),
    ],
)
def test_decisions_filter(house: House, query: str, ids: list[str]) -> None:
    found = Client(house).get(f"/api/v1/decisions?{query}").json()
    assert [item["admission"]["id"] for item in found["items"]] == ids


def test_a_decision_shows_what_became_of_it_and_what_it_rested_on(house: House) -> None:
    found = Client(house).get("/api/v1/decisions/a-0").json()
    assert found["entry"]["state"] == "confirmed"
    assert found["entry"]["verdict"]["detail"].startswith("4 replicas")
    assert found["inputs"]["epoch"] == 7
    assert found["inputs"]["forecasts"] and found["inputs"]["findings"]


def test_missing_points_are_null_and_never_zero(house: House) -> None:
    key = SeriesKey.of("x_ratio", node="a")
    house.store.series[key] = (np.array([NOW - 20, NOW - 10]), np.array([np.nan, 2.5]))
    data = Client(house).get("/api/v1/series/data?metric=x_ratio").json()["series"][0]
    assert data["values"] == [None, 2.5]


def test_a_series_comes_back_in_columns_as_it_was(house: House) -> None:
    data = Client(house).get(f"/api/v1/series/data?metric={LOAD.metric}&match=service=chat&window=6h").json()["series"]
    kept: Series = next(s for s in house.store.read(_whole(LOAD.metric), NOW) if s.key == LOAD)
    assert len(data) == 1
    assert np.array_equal(data[0]["values"], kept.values)
    assert np.array_equal(data[0]["times"], kept.times)
    assert data[0]["labels"] == {"service": "chat"}


def _whole(metric: str) -> Any:
    from aiops.model import Query

    return Query(metric=metric, window_s=6 * 3600.0)


def test_configuration_is_shown_without_its_secrets(house: House) -> None:
    from aiops.settings import Settings

    house.settings = Settings(  # type: ignore[call-arg]
        store={"url": "postgresql://ann:hunter2@db:5432/aiops"},
        receivers={
            "pager": {
                "webhook": {
                    "url": "https://u:hunter2@example.org/x",
                    "signing_key": "hunter2",
                    "headers": [{"api_token": "hunter2"}],
                }
            }
        },
    )
    answer = Client(house).get("/api/v1/config")
    assert "hunter2" not in answer.text
    assert "postgresql://ann:<redacted>@db:5432/aiops" in answer.text


def test_forecast_summary_tells_age_and_refusal(house: House) -> None:
    found = {f["target"]: f for f in Client(house).get("/api/v1/forecasts").json()["items"]}
    chat = found[str(LOAD)]
    assert (chat["age_seconds"], chat["model"], chat["refused"]) == (300.0, "boosting", None)
    assert found['service_requests_per_second{service="embed"}']["refused"] == "no skill against last value"


def test_forecast_history_keeps_the_newest_when_limited(house: House) -> None:
    house.store.made.append(forecast(str(LOAD), NOW - 1, 100.0))
    found = Client(house).get(f"/api/v1/forecasts/history?target={LOAD}&limit=1").json()
    assert [f["made_at"] for f in found["items"]] == [NOW - 1]


def test_collectors_are_known_by_their_own_samples(house: House) -> None:
    from dataclasses import replace

    house.status = replace(house.status, collectors=())
    for metric, value in (("success", 0.0), ("duration_seconds", 2.0), ("last_success_timestamp_seconds", NOW - 300)):
        key = SeriesKey.of(f"aiops_collector_{metric}", collector="nvml", node="a")
        house.store.series[key] = (np.array([NOW - 5]), np.array([value]))
    (found,) = Client(house).get("/api/v1/status").json()["collectors"]
    assert (found["name"], found["ok"], found["seconds"], found["last_success_at"]) == ("nvml", False, 2.0, NOW - 300)

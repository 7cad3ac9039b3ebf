"""/metrics: parsable in both formats, exact names, nothing invented, nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_house import LOAD, NOW, Client, House, forecast, seeded
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from aiops.api import samples
from aiops.api.status import Status
from aiops.model import SeriesKey
from aiops.ports import Message

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


@pytest.fixture
def house() -> House:
    return House(store=seeded())


def scraped(client: Client, path: str = "/metrics") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples by name and labels; a duplicate fails."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text(client.get(path).text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def named(client: Client, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (found, labels), value in scraped(client).items() if found == name}


def test_the_format_is_what_the_scraper_accepts(house: House) -> None:
    client = Client(house)
    plain, strict = client.get("/metrics"), client.get("/metrics", Accept=OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain")
    assert strict.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert strict.text.endswith("# EOF\n")
    assert {family.name for family in openmetrics(strict.text)} >= {
        "aiops_build",
        "aiops_forecast_value",
        "gpu_power_watts",
    } - {"aiops_build"}


def test_every_family_has_help_and_type_once(house: House) -> None:
    lines = Client(house).get("/metrics").text.splitlines()
    for word in ("# HELP ", "# TYPE "):
        names = [line.split()[2] for line in lines if line.startswith(word)]
        assert len(names) == len(set(names))
    families = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")} <= families


def test_forecasts_are_quantiles_by_horizon(house: House) -> None:
    house.store.made.append(forecast(str(LOAD), NOW - 30, 100.0))
    found = named(Client(house), "aiops_forecast_value")
    at = (("horizon", "15m"), ("quantile", "0.5"), ("target", str(LOAD)))
    assert found[at] == pytest.approx(115.0)  # the third five-minute step of `forecast`
    assert {dict(labels)["horizon"] for labels in found} == {"15m", "30m"}
    assert named(Client(house), "aiops_forecast_age_seconds")[(("target", str(LOAD)),)] == 30.0


def test_a_stale_forecast_has_no_value_and_no_recommendation(house: House) -> None:
    house.clock.advance(3600)
    client = Client(house)
    assert named(client, "aiops_forecast_value") == {}
    assert named(client, "aiops_recommended_replicas") == {}


def test_a_forecast_of_a_clock_that_was_wrong_is_no_fresher_than_a_stale_one(house: House) -> None:
    house.store.made = [forecast(str(LOAD), NOW + 3600, 100.0)]
    client = Client(house)
    assert named(client, "aiops_forecast_value") == {}
    assert not any(name.endswith(":predicted") for name, _ in scraped(client, "/metrics/predicted"))


def test_only_usable_forecasts_recommend(house: House) -> None:
    found = named(Client(house), "aiops_recommended_replicas")
    assert set(found) == {(("target", "chat"),)}  # embed's forecast is refused


def test_decisions_are_counted_once_each_from_the_start(house: House) -> None:
    client = Client(house)
    assert named(client, "aiops_decisions_total") == {}  # what was decided before this process is not its count
    row, cycle = house.store.admitted[1]
    key = (("action", "scale_service"), ("mode", "auto"), ("reason", "cooldown"))
    for n in (1, 2, 3):
        house.clock.advance(10)
        house.store.admitted.append((replace(row, id=f"n-{n}", at=house.clock.now()), cycle))
        assert named(client, "aiops_decisions_total")[key] == n
    assert named(client, "aiops_decisions_total")[key] == 3  # looking again counts nothing twice


def test_two_decisions_of_one_moment_both_count(house: House) -> None:
    client = Client(house)
    row, cycle = house.store.admitted[1]
    house.clock.advance(10)
    house.store.admitted.append((replace(row, id="n-1", at=NOW + 5), cycle))
    named(client, "aiops_decisions_total")
    house.store.admitted.append((replace(row, id="n-2", at=NOW + 5), cycle))
    assert sum(named(client, "aiops_decisions_total").values()) == 2


def test_the_exemplar_names_the_decision(house: House) -> None:
    client = Client(house)
    row, cycle = house.store.admitted[0]
    house.clock.advance(1)
    house.store.admitted.append((replace(row, id="n-9", at=NOW + 1), cycle))
    strict = client.get("/metrics", Accept=OPENMETRICS).text
    (sample,) = (s for f in openmetrics(strict) for s in f.samples if s.name == "aiops_decisions_total")
    assert sample.exemplar is not None and sample.exemplar.labels == {"decision": "n-9"}


def test_dead_letters_are_counted_once(house: House) -> None:
    client = Client(house)
    house.store.dead.append(Message(id="m", group="g", receiver="pager", body=b"", created_at=NOW, dead=True))
    key = (("integration", "pager"), ("reason", "dead_letter"))
    assert [named(client, "aiops_notifications_failed_total")[key] for _ in range(2)] == [1, 1]
    house.store.dead.clear()  # pruned: a counter does not go down
    assert named(client, "aiops_notifications_failed_total")[key] == 1


def test_collected_samples_keep_name_labels_and_value(house: House) -> None:
    found = named(Client(house), "gpu_power_watts")
    assert found[(("gpu", "3"), ("node", "gpu-00"), ("uuid", "GPU-03"))] == 495.0
    assert len(found) == 15  # the lost GPU has none


def test_a_silent_series_disappears_and_is_not_repeated(house: House) -> None:
    key = SeriesKey.of("gpu_power_watts", gpu="9", node="x", uuid="u")
    times, values = house.store.series[SeriesKey.of("gpu_power_watts", gpu="3", node="gpu-00", uuid="GPU-03")]
    keep = times < NOW - 60
    house.store.series[key] = (times[keep], values[keep])
    assert key.labels not in named(Client(house), "gpu_power_watts")


def test_names_a_linter_refuses_have_a_page_of_their_own(house: House) -> None:
    client = Client(house)
    assert not any(name == "node_memory_MemAvailable_bytes" for name, _ in scraped(client))
    assert any(name == "node_memory_MemAvailable_bytes" for name, _ in scraped(client, "/metrics/raw"))


def test_grafanas_alias_carries_the_labels_of_the_metric(house: House) -> None:
    house.store.made.append(forecast(str(LOAD), NOW, 100.0))
    found = scraped(client := Client(house), "/metrics/predicted")
    name = f"{LOAD.metric}:predicted"
    assert found[(name, (("ml_forecast", "yhat"), ("service", "chat")))] == pytest.approx(115.0)
    low, high = (found[(name, (("ml_forecast", f"yhat_{end}"), ("service", "chat")))] for end in ("lower", "upper"))
    assert low < 115.0 < high
    assert client.get("/metrics/predicted").status_code == 200


def test_a_refused_forecast_has_no_alias_so_that_or_the_metric_itself_takes_over(house: House) -> None:
    # Given a usable forecast of one service's load, and one that may not be acted upon of another's
    of = {dict(labels).get("service") for _, labels in scraped(Client(house), "/metrics/predicted")}
    # Then who scales or alerts by `x:predicted or x` reacts to what is measured where nobody may trust what is foreseen
    assert "chat" in of
    assert "embed" not in of
    usable = named(Client(house), "aiops_forecast_usable")
    assert [value for labels, value in usable.items() if "embed" in dict(labels)["target"]] == [0.0]  # and this page says so


def test_a_store_that_does_not_answer_leaves_our_own_state(house: House) -> None:
    client = Client(house)
    house.store.broken = True
    found = scraped(client)
    assert found[("aiops_store_up", ())] == 0.0
    assert found[("aiops_ready", ())] == 1.0
    assert not any(name.startswith("aiops_forecast") for name, _ in found)


def test_an_empty_house_says_nothing_it_does_not_know() -> None:
    house = House(status=Status(ready=False, reason="starting"))
    names = {name for name, _ in scraped(Client(house))}
    assert "aiops_last_cycle_timestamp_seconds" not in names
    assert {"aiops_build_info", "aiops_ready", "aiops_leader", "aiops_store_up"} <= names


@pytest.mark.parametrize("value", ["plain", 'quo"te', "back\\slash", "new\nline", "\\n", '\\"', "a,b={}", ""])
def test_a_target_parses_back_to_its_labels(value: str) -> None:
    key = SeriesKey.of("m", a=value, b="x")
    assert samples.parsed(str(key)) == ("m", {"a": value, "b": "x"})

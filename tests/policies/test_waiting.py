"""A load that counts requests in flight: more that come are served at once, longer waits are first diagnosed (Little's law)."""

import numpy as np
import pytest

from aiops.action import Decision, ScaleService
from aiops.model import Cluster, Forecast, Series, SeriesKey, Service
from aiops.snapshot import Snapshot, query_id
from policies.prescale import Prescale

NOW = 1e9
IN_FLIGHT = SeriesKey.of("service_requests_in_flight", service="llm")
ARRIVALS = SeriesKey.of("service_requests_per_second", service="llm")
ANSWERS = SeriesKey.of("service_request_seconds", service="llm")
POLICY = Prescale()
TIMES = NOW - 10.0 * np.arange(359, -1, -1.0)
BOTH, NEITHER = (ARRIVALS, ANSWERS), ()


def llm(**changes: object) -> Service:
    fields = {
        "name": "llm", "uid": "u", "version": "7", "pool": "p", "replicas": 4, "ready": 4, "min_replicas": 1,
        "max_replicas": 40, "load": IN_FLIGHT, "target": 10.0, "gpus_per_replica": 1, "latency": ANSWERS, "slo_s": 4.0,
    }  # fmt: skip
    return Service(**{**fields, **changes})  # type: ignore[arg-type]


def changed(usual: float, times: float, since_s: float) -> np.ndarray:
    """An hour of `usual`, a little noisy, of which the last `since_s` are so many `times` as much."""
    values = usual * (1 + 0.02 * np.random.default_rng(1).standard_normal(360))
    values[NOW - since_s < TIMES] *= times
    return values


def seen(
    one: Service, more: float, slower: float, since_s: float, told: tuple[SeriesKey, ...] = BOTH, **by: object
) -> Snapshot:
    """What the policy sees: 40 requests/s that take a second each, and since `since_s` more or slower ones."""
    arrivals, answers = changed(40.0, more, since_s), changed(1.0, slower, since_s)
    rows = {IN_FLIGHT: arrivals * answers, ARRIVALS: arrivals, ANSWERS: answers}
    cluster = Cluster(at=NOW, backend="b", services=(one,))
    found = {}
    for need in POLICY.needs(cluster):
        key = next(key for key in rows if key.metric == need.query.metric)
        kept = NOW - need.query.window_s < TIMES
        known = key == one.load or key in told
        found[query_id(need.query)] = (Series(key=key, times=TIMES[kept], values=rows[key][kept]),) if known else ()
    return Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, series=found, **by)  # type: ignore[arg-type]


def outcome(snapshot: Snapshot) -> str | int:
    """Replicas asked for, or the note."""
    (answer,) = POLICY.decide(snapshot)
    if isinstance(answer, Decision):
        assert isinstance(answer.action, ScaleService)
        return answer.action.replicas
    return answer


@pytest.mark.parametrize("told", [BOTH, (ARRIVALS,), (ANSWERS,)], ids=["both", "arrivals only", "answer times only"])
@pytest.mark.parametrize("since_s", [10.0, 60.0, 80.0])
def test_slower_answers_alone_add_no_gpu_until_the_diagnosis_had_its_time(told: tuple[SeriesKey, ...], since_s: float) -> None:
    note = outcome(seen(llm(), more=1.0, slower=4.0, since_s=since_s, told=told))
    assert isinstance(note, str)
    assert "requests take longer, no more come" in note
    assert "refused" in note


@pytest.mark.parametrize("told", [BOTH, (ARRIVALS,), (ANSWERS,)], ids=["both", "arrivals only", "answer times only"])
def test_the_wait_is_bounded(told: tuple[SeriesKey, ...]) -> None:
    assert outcome(seen(llm(), more=1.0, slower=4.0, since_s=100.0, told=told)) == 8


@pytest.mark.parametrize("told", [BOTH, (ARRIVALS,), (ANSWERS,)], ids=["both", "arrivals only", "answer times only"])
@pytest.mark.parametrize(
    ("more", "slower"),
    [
        pytest.param(2.0, 1.0, id="twice as many, answered as ever"),
        pytest.param(2.0, 4.0, id="twice as many, and answers are late for it"),
        pytest.param(1.5, 1.1, id="half as many again"),
    ],
)
def test_a_real_surge_is_served_in_the_very_cycle_that_sees_it(told: tuple[SeriesKey, ...], more: float, slower: float) -> None:
    held = outcome(seen(llm(), more, slower, since_s=10.0, told=told))
    asked = outcome(seen(llm(load=ARRIVALS), more, 1.0, since_s=10.0))
    assert isinstance(held, int) and isinstance(asked, int), held
    assert held >= asked > 4, "no later and no less than by requests received"


@pytest.mark.parametrize(
    ("one", "told"),
    [
        pytest.param(llm(gpus_per_replica=0), BOTH, id="replicas without GPUs are cheap"),
        pytest.param(llm(latency=None, slo_s=None), NEITHER, id="nothing tells waiting from coming"),
    ],
)
def test_what_cannot_be_told_or_costs_no_gpu_is_not_held(one: Service, told: tuple[SeriesKey, ...]) -> None:
    assert outcome(seen(one, more=1.0, slower=4.0, since_s=30.0, told=told)) == 8


def test_a_forecast_still_adds_ahead_of_a_load_that_counts_requests_in_flight() -> None:
    times = NOW + 300.0 * np.arange(1, 7)
    forecast = Forecast(
        target=str(IN_FLIGHT), made_at=NOW, times=times, quantiles=np.array([0.5, 0.95]),
        values=np.tile([[60.0], [80.0]], 6), model="m",
    )  # fmt: skip
    assert outcome(seen(llm(), more=1.0, slower=1.0, since_s=10.0, forecasts=(forecast,))) == 7
    assert "no more come" in str(outcome(seen(llm(), more=1.0, slower=4.0, since_s=30.0, forecasts=(forecast,))))

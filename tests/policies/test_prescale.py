"""Prescale: never less than the reactive rule, ahead of the load if the forecast earned it, nothing taken on stale data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.action import Decision, ScaleService
from aiops.codec import decode, encode
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Finding, Forecast, Pool, Series, SeriesKey, Service
from aiops.snapshot import Snapshot, query_id
from policies.load import demand, lead, reactive, surges
from policies.outlook import Rule, now_and_peak
from policies.prescale import Prescale

NOW = 1e9
LOAD = SeriesKey.of("service_requests_per_second", service="web")
POLICY = Prescale()


def service(replicas: int = 4, **changes: object) -> Service:
    fields = {
        "name": "web", "uid": "u", "version": "7", "pool": "p", "replicas": replicas, "ready": replicas,
        "min_replicas": 1, "max_replicas": 20, "load": LOAD, "target": 10.0,
    }  # fmt: skip
    return Service(**{**fields, **changes})  # type: ignore[arg-type]


def flat(value: float, seconds: float = 330.0, ends: float = NOW) -> Series:
    times = np.arange(ends - seconds + 10.0, ends + 1.0, 10.0)
    return Series(key=LOAD, times=times, values=np.full(len(times), value))


def ahead(value: float, made_at: float = NOW - 60.0, refused: str | None = None, steps: int = 6) -> Forecast:
    times = made_at + 300.0 * np.arange(1, steps + 1)
    values = np.tile([[value * 0.8], [value]], (1, steps))
    return Forecast(
        target=str(LOAD),
        made_at=made_at,
        times=times,
        quantiles=np.array([0.5, 0.9]),
        values=values,
        model="m",
        refused=refused,
    )


def seen(
    one: Service,
    series: Series | None,
    *forecasts: Forecast,
    findings: tuple[Finding, ...] = (),
    answers: Series | None = None,
) -> Snapshot:
    cluster = Cluster(at=NOW, backend="b", services=(one,))
    load, *promised = POLICY.needs(cluster)
    found = {query_id(load.query): () if series is None else (series,)}
    found |= {query_id(need.query): (answers,) for need in promised if answers is not None}
    return Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, series=found, forecasts=forecasts, findings=findings)


def target(snapshot: Snapshot) -> int:
    """Replicas that the policy asks for; what is there where it only leaves a note."""
    (answer,) = POLICY.decide(snapshot)
    if isinstance(answer, str):
        return snapshot.cluster.services[0].replicas
    assert isinstance(answer.action, ScaleService)
    return answer.action.replicas


def note(snapshot: Snapshot) -> str:
    (answer,) = POLICY.decide(snapshot)
    assert isinstance(answer, str), answer
    return answer


@pytest.mark.parametrize(
    ("load", "replicas", "wanted"),
    [
        pytest.param(43.0, 4, 4, id="within 10 %: nothing"),
        pytest.param(45.0, 4, 5, id="12.5 % over: ceil(45/10)"),
        pytest.param(37.0, 4, 4, id="7.5 % under: nothing"),
        pytest.param(20.0, 4, 2, id="half: two do"),
        pytest.param(21.0, 4, 3, id="a little over two's worth keeps three, so that 2-1-2 cannot happen"),
        pytest.param(0.0, 4, 1, id="a confirmed zero shrinks to the floor"),
        pytest.param(1e6, 4, 8, id="growth is capped at the larger of +100 % and +4"),
        pytest.param(1e6, 1, 5, id="from one, +4 is the larger"),
        pytest.param(1e6, 18, 20, id="and by the ceiling"),
    ],
)
def test_the_reactive_floor(load: float, replicas: int, wanted: int) -> None:
    assert target(seen(service(replicas), flat(load))) == wanted


def test_a_trusted_forecast_scales_up_before_the_load_is_there() -> None:
    snapshot = seen(service(4), flat(40.0), ahead(75.0))
    (decision,) = POLICY.decide(snapshot)
    assert isinstance(decision, Decision)
    assert "web: 4 -> 8" in decision.reason
    assert "P95" in decision.reason


def test_a_forecast_keeps_what_it_will_need_but_the_reactive_rule_would_drop() -> None:
    assert target(seen(service(4), flat(10.0))) == 1
    assert target(seen(service(4), flat(10.0), ahead(29.0))) == 3
    assert target(seen(service(4), flat(10.0), ahead(31.0))) == 3, (
        "3.3 % over three is within the tolerance: none would be added"
    )
    assert target(seen(service(4), flat(10.0), ahead(34.0))) == 4, "13 % over is not"


@pytest.mark.parametrize(
    ("forecast", "why"),
    [
        (ahead(500.0, refused="no skill against last value"), "no skill"),
        (ahead(500.0, made_at=NOW - 3600.0), "old"),
        (ahead(500.0, made_at=NOW + 60.0), "old"),
        (ahead(-500.0), "absurd"),
        (ahead(500.0, steps=2, made_at=NOW - 600.0), "come to its end"),
    ],
)
def test_a_forecast_that_is_refused_old_or_absurd_changes_nothing(forecast: Forecast, why: str) -> None:
    assert target(seen(service(4), flat(40.0), forecast)) == 4
    (decision,) = POLICY.decide(seen(service(4), flat(60.0), forecast))
    assert isinstance(decision, Decision)
    assert any(why in fact for fact in decision.evidence)


@pytest.mark.parametrize("series", [None, flat(5.0, ends=NOW - 120.0), flat(float("nan"))])
def test_stale_or_missing_load_never_shrinks_but_a_forecast_may_still_grow(series: Series | None) -> None:
    assert "stale or missing" in note(seen(service(4), series))
    assert target(seen(service(4), series, ahead(75.0))) == 8


def test_more_replicas_than_the_bound_are_not_taken_away_unseen() -> None:
    many = service(9, max_replicas=3)
    assert target(seen(many, None)) == 9, "a bound that was lowered while nobody could see the load"
    assert target(seen(many, flat(1.0))) < 9


def test_one_service_that_makes_no_sense_costs_nobody_else() -> None:
    odd = (
        service(name="a", target=0.0),
        service(name="b", target=float("nan")),
        service(name="c", min_replicas=9, max_replicas=2),
    )
    for one in odd:
        assert "make no sense" in note(seen(one, flat(1.0)))
    assert target(seen(service(max_replicas=7, target=1e-300), flat(1e300))) == 7


def test_a_window_that_was_not_watched_whole_does_not_shrink() -> None:
    assert target(seen(service(4), flat(5.0, seconds=60.0))) == 4


def test_shrinking_waits_for_the_stabilisation_window() -> None:
    series = flat(5.0)
    series.values[10:16] = 38.0  # a peak two minutes ago, longer than the average
    assert target(seen(service(4), series)) == 4


def test_a_storage_stall_gives_no_gpu_scale_up() -> None:
    stall = Finding(id="f", at=NOW, cause=Cause.IO_STALL, subject="web", score=1.0, confidence=0.9)
    gpu = service(4, gpus_per_replica=1)
    assert "io_stall" in note(seen(gpu, flat(80.0), findings=(stall,)))
    assert target(seen(gpu, flat(80.0))) == 8
    old = replace(stall, at=NOW - 1000.0)
    assert target(seen(gpu, flat(80.0), findings=(old,))) == 8, "nobody looks any more: the last finding holds nothing for ever"
    assert target(seen(service(4), flat(80.0), findings=(stall,))) == 8, "no GPUs, no gate"


@given(value=st.floats(0, 1e6), load=st.floats(0, 150.0), replicas=st.integers(1, 20))
def test_no_forecast_ever_gives_less_than_the_reactive_rule(value: float, load: float, replicas: int) -> None:
    one = service(replicas)
    assert target(seen(one, flat(load), ahead(value))) >= target(seen(one, flat(load)))


@given(st.sets(st.integers(0, 32)), st.floats(0, 100.0))
def test_less_data_never_takes_more_away(dropped: set[int], load: float) -> None:
    whole, part = flat(load), flat(load)
    part.values[sorted(dropped)] = np.nan
    assert target(seen(service(6), part)) >= min(6, target(seen(service(6), whole)))


def test_the_lead_is_measured_once_there_are_five_starts() -> None:
    assert lead((), (300.0, 5), 30.0) == (300.0, "default, 0 starts measured")
    seconds, source = lead((20.0, 20.0, 20.0, 20.0, 40.0), (300.0, 5), 30.0)
    assert seconds == pytest.approx(32.0 + 30.0)
    assert "5 starts" in source


@pytest.mark.parametrize(
    ("at", "lead_s", "largest"),
    [
        pytest.param(0.0, 200.0, 10.0, id="the step that runs now, and no other"),
        pytest.param(0.0, 299.0, 10.0, id="one second short of the rise: nothing of it is smeared into the step before"),
        pytest.param(0.0, 300.0, 70.0, id="the rise begins where the step before ends: all of it, not half"),
        pytest.param(240.0, 60.0, 70.0, id="a start of a minute is ordered a minute before"),
        pytest.param(450.0, 60.0, 70.0, id="in the middle of the step it still holds"),
        pytest.param(600.0, 60.0, 20.0, id="what has passed is not ahead"),
        pytest.param(600.0, 900.0, 30.0, id="the largest of all steps on the way"),
        pytest.param(1790.0, 900.0, 20.0, id="beyond the end: the last that is known"),
    ],
)
def test_demand_is_the_largest_mean_of_the_steps_that_a_start_reaches(at: float, lead_s: float, largest: float) -> None:
    forecast = ahead(10.0, made_at=NOW)
    forecast.values[1] = [10.0, 70.0, 20.0, 20.0, 30.0, 20.0]
    assert demand(forecast, NOW + at, lead_s, 0.9) == pytest.approx(largest)


def test_the_average_smooths_one_scrape_and_the_peak_remembers() -> None:
    series = flat(10.0, seconds=390.0)
    series.values[:] += np.tile([3.0, -3.0], 20)[: len(series.values)]  # a noise of six from sample to sample
    series.values[-1] = 22.0
    load, likely, peak = now_and_peak(series, NOW, Rule())
    assert load == pytest.approx(series.values[-3:].mean()), "22 is not much in such a noise"
    assert likely == peak == pytest.approx(load), "no surge is reckoned with where no latency is promised"


def test_a_burst_that_stands_out_of_the_noise_is_seen_in_one_sample_and_remembered() -> None:
    series = flat(10.0, seconds=390.0)
    series.values[:] += np.tile([0.5, -0.5], 20)[: len(series.values)]
    series.values[-1] = 40.0
    times, load = reactive(series, NOW, (300.0, 30.0, 4.0))
    assert len(times) == len(load) == 30
    assert load[-1] == 40.0
    assert load[:-1].max() < 10.5
    # Then four minutes later it still counts as the peak, and after the window no longer
    calm = flat(10.0, seconds=390.0)
    calm.values[-25] = 40.0
    assert now_and_peak(calm, NOW, Rule())[2] == 40.0


def test_few_samples_tell_no_noise_and_therefore_no_burst() -> None:
    series = flat(10.0, seconds=50.0)
    series.values[-1] = 40.0
    assert now_and_peak(series, NOW, Rule())[0] == pytest.approx(20.0)


def answers(seconds: float, ends: float = NOW) -> Series:
    times = np.arange(ends - 50.0, ends + 1.0, 10.0)
    return Series(key=LATENCY, times=times, values=np.full(len(times), seconds))


LATENCY = SeriesKey.of("service_request_seconds", service="web")
PROMISED = {"latency": LATENCY, "slo_s": 2.0}


@pytest.mark.parametrize(
    ("load", "timed", "wanted"),
    [
        pytest.param(52.0, answers(1.0), 4, id="30 % over, but answers take half of what is promised"),
        pytest.param(53.0, answers(1.0), 5, id="33 % over is too much whatever the answers take: 53 / (1.1 x 10)"),
        pytest.param(43.0, answers(1.0), 4, id="and no fewer replicas than a tenth over the target needs"),
        pytest.param(39.0, answers(1.0), 4, id="11 % under what is right is outside of the tolerance, and still needs four"),
        pytest.param(32.0, answers(1.0), 3, id="three are enough at a tenth over the target"),
        pytest.param(48.0, answers(1.7), 5, id="answers take 85 % of what is promised: grow at 10 %, as usual"),
        pytest.param(48.0, answers(1.0, ends=NOW - 61.0), 5, id="timed too long ago"),
        pytest.param(48.0, None, 5, id="not timed"),
    ],
)
def test_a_promised_latency_that_is_kept_lets_the_load_rise_further(load: float, timed: Series | None, wanted: int) -> None:
    assert target(seen(service(4, **PROMISED), flat(load), answers=timed)) == wanted


def test_slow_answers_end_the_larger_tolerance_only_after_the_diagnosis_had_its_time() -> None:
    timed = answers(1.9)
    timed.values[0] = 1.0
    assert target(seen(service(4, **PROMISED), flat(48.0), answers=timed)) == 4
    timed.values[0] = 1.9
    assert target(seen(service(4, **PROMISED), flat(48.0), answers=timed)) == 5


def test_once_answers_are_late_a_load_that_has_outrun_the_replicas_is_sized_to_the_target_itself() -> None:
    timed = answers(1.0)
    assert target(seen(service(4, **PROMISED), flat(72.0), answers=timed)) == 7, "72 / 11"
    timed.values[-1] = 1.9
    assert target(seen(service(4, **PROMISED), flat(72.0), answers=timed)) == 8, "a queue has to be worked off"


def surging(low: float, high: float) -> Series:
    """An hour of `low` in which every fourth minute is `high`; the last minute is low."""
    series = flat(low, seconds=3600.0)
    series.values[(np.arange(360) // 6) % 4 == 1] = high
    return series


@pytest.mark.parametrize(
    ("most", "wanted"),
    [
        pytest.param(9, 4, id="a fixed pool: 30 % over is borne while answers are fast"),
        pytest.param(12, 6, id="a node may have to come first: only 20 % over is, and then what the target asks for"),
    ],
)
def test_where_nodes_come_and_go_no_slack_is_spent_beforehand(most: int, wanted: int) -> None:
    now = seen(service(4, **PROMISED), flat(52.0), answers=answers(1.0))
    pools = (Pool(name="p", nodes=9, min_nodes=9, max_nodes=most), Pool(name="other", nodes=1, min_nodes=0, max_nodes=9))
    policy = Prescale(Rule(pools=False))
    (answer,) = policy.decide(replace(now, cluster=replace(now.cluster, pools=pools)))
    assert (answer.action.replicas if isinstance(answer, Decision) and isinstance(answer.action, ScaleService) else 4) == wanted


def test_what_the_load_usually_surges_by_while_a_replica_starts_is_kept_in_hand() -> None:
    series = surging(40.0, 60.0)
    level, factor = surges(series, NOW, (60.0, 0.75))
    assert level[-1] == pytest.approx(44.0), "five minutes of which one is high"
    assert factor == pytest.approx(60.0 / 45.0, rel=0.05)
    # Given a promise that is kept, four replicas do for 40, and not for what 40 surges to
    starts = {"start_s": (50.0,) * 5}
    assert target(seen(service(4, **PROMISED, **starts), flat(40.0, seconds=3600.0), answers=answers(1.0))) == 4
    assert target(seen(service(4, **PROMISED, **starts), series, answers=answers(1.0))) == 6
    # And without one, it is the autoscaler that everybody knows
    assert target(seen(service(4, **starts), flat(40.0, seconds=3600.0))) == 4


@pytest.mark.parametrize("series", [flat(40.0, seconds=290.0), flat(0.0, seconds=3600.0), flat(float("nan"), seconds=3600.0)])
def test_where_little_is_known_no_surge_is_invented(series: Series) -> None:
    assert surges(series, NOW, (60.0, 0.75))[1] == 1.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=400), st.floats(1, 900), st.floats(0.01, 0.99))
def test_a_surge_is_a_finite_factor_of_at_least_one(values: list[float], lead_s: float, quantile: float) -> None:
    times = NOW - 10.0 * np.arange(len(values))[::-1]
    level, factor = surges(Series(key=LOAD, times=times, values=np.array(values)), NOW, (lead_s, quantile))
    assert len(level) == len(values)
    assert 1.0 <= factor <= 5.0
    assert np.isfinite(level).all() and (level >= 0).all()


def test_the_same_snapshot_from_its_bytes_gives_the_same_bytes() -> None:
    snapshot = seen(service(4), flat(60.0), ahead(75.0))
    again = decode(Snapshot, encode(snapshot))
    assert encode(list(POLICY.decide(snapshot))) == encode(list(POLICY.decide(again)))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"quantil": 0.9}, "quantil"),
        ({"quantile": 1.5}, "quantile"),
        ({"stabilise_s": "soon"}, "stabilise_s"),
        ({"grow_by": 0}, "grow_by"),
    ],
)
def test_wrong_settings_are_refused_by_their_path(section: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"policies\.prescale\.{key}"):
        Prescale.from_settings(section, "aiops.yaml")

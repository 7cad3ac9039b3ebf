"""A storage stall under a service: more replicas would not help, and the diagnosis keeps them from being added."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from aiops.sim.cluster.report import simulate, stage_of
from aiops.sim.cluster.scenario import Scenario, Stall
from aiops.sim.cluster.stall import carried, findings, scale_ups, shown, slowed

STALL = Stall(service="chat", at=1200.0, length=900.0, slowdown=4.0, in_flight=True, diagnosed=60.0)


@contextmanager
def silent(what: str) -> Iterator[Any]:
    yield lambda share: None


def run(**changes: Any) -> dict[str, Any]:
    """An hour at 140 requests/s with a stall of a quarter of an hour; no baseline but HPA."""
    stall = {"service": "chat", "at": "20m", "length": "15m", "slowdown": 4, **changes}
    world = Scenario(
        name="stalled", history="1h", length="1h", stalls=[stall], load=[{"service": "chat", "mean": 140, "daily": 0}],
        pools=[{"name": "p", "gpu_type": "A100", "nodes": 20, "gpus": 8}],
        services=[{
            "name": "chat", "pool": "p", "gpus_per_replica": 1, "capacity": 10, "max_replicas": 150, "latency": "100ms",
            "slo": "1s", "cold_start": {"p50": "21s", "p90": "41s"},
        }],
    )  # fmt: skip
    return simulate(stage_of(world, None, 0), ("hpa",), "here", silent)


def test_the_diagnosis_keeps_gpus_from_being_added() -> None:
    # Given a load that counts requests in flight, four times as many while the volume stalls
    told, blind = run(in_flight=True, diagnosed=0), run(in_flight=True, diagnosed=None)
    # Then HPA and a policy that nobody tells add GPUs, and the one that is told adds none
    assert told["baselines"]["hpa"]["scale_ups_in_stalls"] > 0
    assert blind["policies"]["prescale"]["scale_ups_in_stalls"] > 0
    assert told["policies"]["prescale"]["scale_ups_in_stalls"] == 0
    assert told["policies"]["prescale"]["invariant_violations"] == 0
    # And what is promised is broken for everybody: the stall is real
    assert told["policies"]["prescale"]["slo_violation_minutes"] > 14
    assert told["baselines"]["hpa"]["slo_violation_minutes"] > 14


def test_a_diagnosis_that_takes_a_minute_is_waited_for_where_only_waiting_has_grown() -> None:
    report = run(in_flight=True, diagnosed=60)
    assert report["policies"]["prescale"]["scale_ups_in_stalls"] == 0
    assert report["baselines"]["hpa"]["scale_ups_in_stalls"] > 0


def test_slow_answers_alone_add_nothing_before_the_diagnosis_speaks() -> None:
    report = run(diagnosed=60)
    assert report["policies"]["prescale"]["scale_ups_in_stalls"] == 0


def test_what_a_stall_does() -> None:
    rates, ready = np.full(4000, 10.0), np.full(3600, 8.0)
    seen = shown([STALL], "chat", rates, 400)
    assert (seen[1599], seen[1600], seen[2499], seen[2500]) == (10.0, 40.0, 40.0, 10.0)
    assert rates.max() == 10.0, "the load itself is as it was"
    assert shown([STALL], "other", rates, 400) is rates
    ready[1300:] = 30.0  # somebody added replicas during the stall
    done = carried([STALL], "chat", ready)
    assert (done[1199], done[1200], done[1400], done[2100]) == (8.0, 2.0, 2.0, 30.0)
    assert [slowed([STALL], "chat", at) for at in (1199.0, 1200.0, 2099.0, 2100.0)] == [1.0, 4.0, 4.0, 1.0]


@pytest.mark.parametrize(("now", "told"), [(1259.0, 0), (1260.0, 1), (2099.0, 1), (2100.0, 0)])
def test_the_diagnosis_speaks_after_its_lag_and_until_the_end(now: float, told: int) -> None:
    assert len(findings([STALL], 0.0, now)) == told


def test_only_growth_within_the_stall_counts() -> None:
    orders = [(1100.0, 1, 2), (1200.0, 2, 3), (1300.0, 3, 2), (2100.0, 2, 5)]
    assert scale_ups([STALL], "chat", orders, 0.0) == 1


def test_a_stall_of_an_unknown_service_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected a service of chat"):
        run(service="ghost")

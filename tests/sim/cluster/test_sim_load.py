"""The trace: every second's load from it, and one clear line for what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from aiops.errors import ConfigError, UserError
from aiops.sim.cluster.load import read_loads, synthetic
from aiops.sim.cluster.report import stage_of
from aiops.sim.cluster.scenario import Scenario, read_scenario

SERVICE = {"name": "chat", "pool": "p", "capacity": 10, "max_replicas": 9, "slo": "2s"}


def scenario(**changes: object) -> Scenario:
    fields = {"name": "s", "history": "1m", "pools": [{"name": "p", "nodes": 1}], "services": [SERVICE], **changes}
    return Scenario(**fields)  # type: ignore[arg-type]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_requests_of_an_interval_arrive_within_it(tmp_path: Path) -> None:
    # Given 6,000 requests in the first minute, none in the second, 600 in the third
    path = written(tmp_path, "time,service,requests\n0,chat,6000\n60,chat,0\n120,chat,600\n")
    loads = read_loads(path, scenario(), 3)
    minutes = loads.rates["chat"].reshape(3, 60)
    assert minutes.sum(axis=1) == pytest.approx([6000, 0, 600], rel=0.1)
    assert minutes[0].std() == pytest.approx(10, rel=0.4), "Poisson within the interval"
    assert loads.per_request["chat"] == 1.0
    assert np.array_equal(read_loads(path, scenario(), 3).rates["chat"], loads.rates["chat"])
    assert not np.array_equal(read_loads(path, scenario(), 4).rates["chat"], loads.rates["chat"])


def test_tokens_weigh_as_the_scenario_says(tmp_path: Path) -> None:
    # Given requests of 100 prompt and 50 output tokens, and a load of output tokens plus a tenth of the prompt's
    weighed = {**SERVICE, "work": {"requests": 0, "prompt_tokens": 0.1, "output_tokens": 1}}
    path = written(tmp_path, "time,service,requests,prompt_tokens,output_tokens\n" + "\n".join(
        f"{60 * i},chat,600,60000,30000" for i in range(10)) + "\n")  # fmt: skip
    loads = read_loads(path, scenario(services=[weighed]), 0)
    assert loads.per_request["chat"] == pytest.approx(60.0)
    assert loads.rates["chat"].mean() == pytest.approx(600.0, rel=0.05)


def test_missing_is_not_zero_but_carried_forward_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "time,service,requests\n0,chat,6000\n60,chat,\n180,chat,6000\n240,chat,6000\n")
    loads = read_loads(path, scenario(), 0)
    assert loads.carried == 2, "an empty cell, and a row that is not there"
    assert loads.rates["chat"].reshape(5, 60).sum(axis=1) == pytest.approx([6000] * 5, rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,service\n0,chat\n", "requests"),
        ("time,service,requests\n0,chat,many\n", "2: requests: expected a finite number"),
        ("time,service,requests\n0,chat,-1\n60,chat,2\n", "requests of at least zero"),
        ("time,service,requests\n0,other,1\n", "found 'other'"),
        ("time,service,requests\n0,chat,1\n9e9,chat,1\n", "expected at most 100 days"),
        ("time,service,requests\n", "found none for 'chat'"),
    ],
)
def test_a_bad_trace_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_loads(written(tmp_path, text), scenario(), 0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("services: []", "services"),
        ("services: [{name: a, pool: q, capacity: 1, max_replicas: 1, slo: 1s}]", "expected a pool of p, found 'q'"),
        ("services: [{name: a, pool: p, capacity: 1, min_replicas: 3, max_replicas: 1, slo: 1s}]", "min_replicas of at most"),
        ("services: [{name: a, pool: p, capacity: 1, target: 2, max_replicas: 1, slo: 1s}]", "target of at most the capacity"),
        ("services: [{name: a, pool: p, capacity: 0, max_replicas: 1, slo: 1s}]", "services.0.capacity"),
        ("services: [{name: a, pool: p, capacity: 1, max_replicas: 1, slo: 10ms}]", "an slo above the latency"),
        ("services: [{name: a, pool: p, gpus_per_replica: 9, capacity: 1, max_replicas: 1, slo: 1s}]", "does not fit a node"),
        ("services: [{name: a, pool: p, capacity: 1, max_replicas: 1, slo: 1s, cold_start: {p50: 9s, p90: 1s}}]", "p90 of at"),
        ("nodes: 3", "unknown key"),
    ],
)
def test_a_bad_scenario_names_its_key(tmp_path: Path, changes: str, message: str) -> None:
    path = tmp_path / "scenario.yaml"
    services = "" if "services" in changes else "services: [{name: a, pool: p, capacity: 1, max_replicas: 1, slo: 1s}]\n"
    path.write_text(f"name: s\npools: [{{name: p, nodes: 1}}]\n{services}{changes}\n")
    with pytest.raises(ConfigError) as error:
        read_scenario(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_history_must_leave_something_to_simulate() -> None:
    short = scenario(history="2d", length="1m", load=[{"service": "chat", "mean": 5}])
    with pytest.raises(UserError, match="history: expected at least 600 s of load after it"):
        stage_of(short, None, 0)


def test_a_service_without_load_is_named() -> None:
    with pytest.raises(UserError, match="no load for service 'chat'"):
        synthetic(scenario(), 0)

"""Whose GPUs they were, by REST: from Slurm's mapping and from exporters' labels; what nobody names is null."""

from urllib.parse import quote

import numpy as np
import pytest
from api_house import NOW, Client, House, seeded

from aiops.model import SeriesKey


def sampled(house: House, metric: str, ages: list[float], **labels: str) -> None:
    times = np.array([NOW - age for age in ages])
    house.store.series[SeriesKey.of(metric, **labels)] = (times, np.ones(len(times)))


@pytest.fixture
def house() -> House:
    found = House(store=seeded())
    found.store.series = {key: value for key, value in found.store.series.items() if not key.metric.startswith("gpu_")}
    sampled(found, "gpu_job_info", [100, 90, 80], uuid="GPU-a", gpu="0", hpc_job="7")
    sampled(found, "gpu_job_info", [70, 60, 50], uuid="GPU-a", gpu="0")
    sampled(found, "gpu_power_watts", [100, 90, 80], uuid="GPU-a", gpu="0", hpc_job="wrong")
    sampled(found, "gpu_power_watts", [40, 30, 20], uuid="GPU-b", gpu="0", namespace="ml", pod="train-0")
    sampled(found, "gpu_utilization_ratio", [40, 30], uuid="GPU-b", gpu="0")
    return found


def test_intervals_and_gpu_seconds(house: House) -> None:
    found = Client(house).get("/api/v1/attribution?window=10m").json()
    assert [(row["uuid"], row["job"], NOW - row["from"], NOW - row["to"]) for row in found["items"]] == [
        ("GPU-a", "7", 100, 80),
        ("GPU-a", None, 70, 50),
        ("GPU-b", "ml/train-0", 40, 20),
    ]
    assert found["gpu_seconds"] == {"7": 20.0, "ml/train-0": 20.0} and found["unattributed_gpu_seconds"] == 20.0
    assert (found["to"], found["to"] - found["from"], found["total"]) == (NOW, 600.0, 3)


@pytest.mark.parametrize(
    ("query", "uuids", "why"),
    [
        ("job=7", ["GPU-a"], "one job's"),
        ("job=", ["GPU-a"], "nobody's"),
        ("uuid=GPU-b", ["GPU-b"], "one GPU's"),
        ("job=8", [], "a job that held none"),
        (f"end={NOW - 60}", ["GPU-a", "GPU-a"], "an earlier window"),
        ("window=30s", ["GPU-b"], "a short one"),
    ],
)
def test_choices(house: House, query: str, uuids: list[str], why: str) -> None:
    assert [row["uuid"] for row in Client(house).get(f"/api/v1/attribution?{query}").json()["items"]] == uuids, why


def test_pages(house: House) -> None:
    first = Client(house).get("/api/v1/attribution?limit=2").json()
    rest = Client(house).get(f"/api/v1/attribution?limit=2&after={quote(first['next'])}").json()
    assert [row["job"] for row in first["items"] + rest["items"]] == ["7", None, "ml/train-0"] and rest["next"] is None


@pytest.mark.parametrize("window", ["0s", "32d", "x", "-1h"])
def test_a_wrong_window_is_named(house: House, window: str) -> None:
    answer = Client(house).get(f"/api/v1/attribution?window={window}")
    assert answer.status_code == 400 and "window" in answer.text

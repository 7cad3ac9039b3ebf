"""An SLI that does what was foreseen is no anomaly; one that does not is, whatever the forecast learnt since."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, job, one_host, series, shifted

from aiops.diagnose.engine import CausalDiagnoser
from aiops.diagnose.shift import LATE_S
from aiops.model import Forecast

LATENCY = series("service_latency_seconds", shifted(0.2, 0.5, 12, seed=1), service="chat", quantile="0.95")
AHEAD = NOW - 900 + 300.0 * np.arange(1, 7)


def forecast(at_now: float, **changes: object) -> Forecast:
    """Made a quarter of an hour ago: from 0.2 up to `at_now`, with a band of a tenth on both sides."""
    middle = np.interp(AHEAD, [NOW - 900, NOW], [0.2, at_now])
    made = Forecast(
        target=str(LATENCY.key), made_at=NOW - 900, times=AHEAD, quantiles=np.array([0.05, 0.5, 0.95]),
        values=np.stack([0.9 * middle, middle, 1.1 * middle]), model="m",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("made", "found", "why"),
    [
        ((), True, "nobody foresaw it"),
        ((forecast(0.5),), False, "it was foreseen to be so slow by now"),
        ((forecast(0.25),), True, "it is far beyond what was foreseen"),
        ((forecast(0.5, refused="no skill"),), True, "a forecast that may not be acted upon explains nothing"),
        ((forecast(0.5, made_at=NOW - LATE_S + 30),), True, "one made since may have learnt the fault"),
        ((forecast(0.5, target="service_latency_seconds{service=other}"),), True, "another series"),
        ((forecast(0.25), forecast(0.5, made_at=NOW - 600)), False, "the newest that cannot have learnt it counts"),
        ((forecast(0.5, times=AHEAD - 1800),), True, "it ended before now"),
    ],
)
def test_a_slow_service_is_a_finding_only_beyond_its_forecast(made: tuple, found: bool, why: str) -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    findings = CausalDiagnoser().diagnose(cluster, [LATENCY], NOW, (), made)
    assert any(f.sli and f.sli.startswith("service:chat") for f in findings) is found, why

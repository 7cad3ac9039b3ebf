"""Whose GPU it was: intervals from labels that come late, have gaps, and contradict each other."""

import numpy as np
import pytest

from aiops.attribution import Tenure, owner, seconds, tenures
from aiops.model import Series, SeriesKey


def sampled(times: list[float], values: list[float] | None = None, uuid: str = "GPU-1", **labels: str) -> Series:
    key = SeriesKey.of("gpu_power_watts", gpu="0", **({"uuid": uuid} if uuid else {}), **labels)
    return Series(key=key, times=np.array(times), values=np.array(values or [100.0] * len(times)))


A, B = {"namespace": "ml", "pod": "a"}, {"namespace": "ml", "pod": "b"}


@pytest.mark.parametrize(
    ("series", "found", "why"),
    [
        ([sampled([0, 10, 20], **A)], [(0, 20, "ml/a")], "one pod"),
        ([sampled([0, 10], **A), sampled([20, 30], **B)], [(0, 10, "ml/a"), (20, 30, "ml/b")], "one after the other"),
        ([sampled([0, 10], **A), sampled([20, 30])], [(0, 10, "ml/a"), (20, 30, "")], "then nobody: seen, not guessed"),
        ([sampled([0, 10, 20], **A), sampled([0, 10, 20])], [(0, 20, "ml/a")], "one exporter names it, another cannot"),
        ([sampled([0, 10, 100, 110], **A)], [(0, 10, "ml/a"), (100, 110, "ml/a")], "nobody looked for 90 s"),
        ([sampled([0, 10, 20], **A), sampled([10, 20, 30], **B)], [(0, 20, "ml/a"), (10, 30, "ml/b")], "time-slicing"),
        ([sampled([0, 10, 20], [1.0, np.nan, 1.0], **A)], [(0, 20, "ml/a")], "a blank sample is no sample"),
        ([sampled([0, 10], hpc_job="4711", **A)], [(0, 10, "4711")], "the scheduler's job before the pod"),
        ([sampled([0, 10], pod="a")], [(0, 10, "")], "a pod without a namespace names nobody"),
        ([sampled([0, 10], uuid="", **A)], [], "a GPU without identity is none"),
        ([], [], "nothing"),
    ],
)
def test_intervals(series: list[Series], found: list[tuple[float, float, str]], why: str) -> None:
    assert tenures(series, gap_s=30.0) == tuple(Tenure("GPU-1", *row) for row in found), why


def test_order_of_series_does_not_matter_and_gpus_are_apart() -> None:
    rows = [sampled([0, 10], **A), sampled([20], **B), sampled([0, 10], uuid="GPU-0", hpc_job="7")]
    assert tenures(rows, 30.0) == tenures(rows[::-1], 30.0)
    assert [row.uuid for row in tenures(rows, 30.0)] == ["GPU-0", "GPU-1", "GPU-1"]


def test_gpu_seconds_show_what_nobody_claims() -> None:
    rows = tenures([sampled([0, 10, 20], **A), sampled([30, 40])], 30.0)
    assert seconds(rows) == {"ml/a": 20.0, "": 10.0}


def test_a_label_names_its_owner() -> None:
    assert owner(SeriesKey.of("m", namespace="ml", pod="a")) == "ml/a" and owner(SeriesKey.of("m")) == ""

"""The world behaves: every fault moves what it should move, before what follows from it, and nothing else."""

import numpy as np
import pytest

from aiops.sim.faults import KINDS, make_case
from aiops.sim.faults.cases import TWO, Case

REAL = [name for name, kind in KINDS.items() if kind.hurts]


def series(case: Case, entity: str, metric: str) -> np.ndarray:
    """(n,) values; of a counter its rate."""
    values = next(v for e, m, v in case.rows if e == entity and m.startswith(metric))
    good = np.interp(case.times, case.times[np.isfinite(values)], values[np.isfinite(values)])
    return np.diff(good, prepend=good[0]) if "_total" in metric else good


def shift(case: Case, entity: str, metric: str) -> float:
    """Median after over median before."""
    values, late = series(case, entity, metric), case.times >= case.truth["at"]
    before = np.median(values[(case.times < case.truth["onset"]) & (case.times > case.times[5])])
    return float(np.median(values[late]) / max(before, 1e-12))


def entities(case: Case, kind: str) -> list[str]:
    return [entity["id"] for entity in case.topology["entities"] if entity["type"] == kind]


def of_job(case: Case, kind: str) -> list[str]:
    return [e for e in entities(case, kind) if "job-a" in e]


@pytest.mark.parametrize("name", REAL)
def test_every_fault_hurts_the_job_that_is_watched(name: str) -> None:
    case = make_case(name, 11)
    assert shift(case, "job-a", "job_step_duration_seconds") > 1.15
    assert case.truth["onset"] <= case.truth["visible"] < case.truth["at"] < case.times[-1]


@pytest.mark.parametrize("name", [*KINDS, TWO])
def test_equal_seeds_give_equal_cases_and_others_differ(name: str) -> None:
    one, same, other = make_case(name, 3), make_case(name, 3), make_case(name, 4)
    assert one.truth == same.truth and one.topology == same.topology
    for (entity, metric, values), (_, _, again) in zip(one.rows, same.rows, strict=True):
        np.testing.assert_array_equal(values, again, err_msg=f"{entity} {metric}")
    assert one.truth["at"] != other.truth["at"]


@pytest.mark.parametrize("name", ["storage_slow", "storage_neighbour"])
def test_a_starved_volume_shows_as_latency_then_empty_queues_then_waiting(name: str) -> None:
    case = make_case(name, 5)
    volumes = {e["to"] for e in case.topology["edges"] if e["from"].startswith("loader-job-a") and e["to"].startswith("vol")}
    (volume,) = volumes
    assert shift(case, volume, "node_disk_read_time_seconds_total") > 1.5
    starved = [e for e in of_job(case, "loader") if shift(case, e, "job_data_wait_seconds_total") > 3]
    assert starved  # the ranks with the slowest loader; the others wait for them
    assert all(shift(case, loader, "job_loader_queue_batches") < 0.5 for loader in starved)
    assert case.truth["visible"] >= case.truth["onset"]


def test_only_the_neighbour_raises_its_own_reading() -> None:
    case = make_case("storage_neighbour", 5)
    grown = {tenant: shift(case, tenant, "node_disk_read_bytes_total") for tenant in entities(case, "tenant")}
    assert max(grown, key=lambda t: grown[t]) == case.truth["entity"]
    assert grown[case.truth["entity"]] > 2


def test_the_late_rank_is_the_one_that_waits_least() -> None:
    case = make_case("straggler", 5)
    gpus = {e["to"] for e in case.topology["edges"] if e["from"] == "ring-job-a" and e["to"].startswith("gpu")}
    wait = {gpu: np.median(series(case, gpu, "job_comm_wait_seconds_total")[case.times >= case.truth["at"]]) for gpu in gpus}
    assert min(wait, key=lambda gpu: wait[gpu]) == case.truth["entity"]


def test_heat_comes_before_the_slow_clock() -> None:
    case = make_case("thermal", 5)
    gpu = case.truth["entity"]
    assert shift(case, gpu, "gpu_temperature_celsius") > 1.08
    assert shift(case, gpu, "gpu_clock_hertz") < 0.95
    hot = np.argmax(
        series(case, gpu, "gpu_temperature_celsius") > 1.05 * np.median(series(case, gpu, "gpu_temperature_celsius")[:300])
    )
    slow = np.argmax(series(case, gpu, "gpu_clock_hertz") < 0.97 * series(case, gpu, "gpu_clock_hertz")[0])
    assert hot < slow


def test_a_power_cap_slows_without_heat() -> None:
    case = make_case("power_cap", 5)
    assert shift(case, case.truth["entity"], "gpu_power_limit_watts") < 0.9
    assert shift(case, case.truth["entity"], "gpu_temperature_celsius") <= 1.0


def test_a_bigger_batch_makes_longer_steps_and_no_fewer_samples() -> None:
    case = make_case("bigger_batch", 5)
    assert shift(case, "job-a", "job_step_duration_seconds") > 1.2
    assert shift(case, "job-a", "job_samples_total") > 0.95


@pytest.mark.parametrize("name", ["sensor_frozen", "sensor_lying", "normal"])
def test_a_broken_sensor_and_an_ordinary_day_change_no_step(name: str) -> None:
    assert shift(make_case(name, 5), "job-a", "job_step_duration_seconds") == pytest.approx(1.0, abs=0.05)


def test_pinned_utilisation_says_nothing() -> None:
    """Given GPUs whose utilisation is pinned, when storage stalls them, then only SM activity tells."""
    pinned = [case for seed in range(6) if (case := make_case("storage_slow", seed)) is not None]
    seen = 0
    for case in pinned:
        gpu = next(e["to"] for e in case.topology["edges"] if e["from"] == "ring-job-a" and e["to"].startswith("gpu"))
        if np.median(series(case, gpu, "gpu_utilization_ratio")[:300]) >= 0.98:
            seen += shift(case, gpu, "gpu_utilization_ratio") > 0.98 and shift(case, gpu, "gpu_sm_active_ratio") < 0.9
    assert seen >= 1


def test_the_parts_of_a_step_add_up() -> None:
    case = make_case("straggler", 6)
    edges = [(e["from"], e["to"]) for e in case.topology["edges"]]
    gpu = next(to for effect, to in edges if effect == "ring-job-a" and to.startswith("gpu"))
    loader = next(to for effect, to in edges if effect == gpu and to.startswith("loader"))
    parts = [(gpu, "job_compute_seconds_total"), (gpu, "job_comm_wait_seconds_total"), (loader, "job_data_wait_seconds_total")]
    spent = sum(series(case, entity, metric) for entity, metric in parts)
    saving = series(case, "job-a", "job_checkpoint_seconds_total") > 0.5
    assert np.median(spent[~saving][2:]) == pytest.approx(1.0, abs=0.01)  # a second of each second

"""Services in virtual time: the real core and policies beside HPA, KPA, Crane, last week's maximum, AIBrix and an oracle.

    python bench/simulate.py [--quick] [--json OUT] [--trace NAME ...] [--days N] [--seeds N]

Every run sees the same arrivals, nodes and cold starts. Request traces are looked for in `../shared/data`; each is scaled to
a mean of 100 requests/s and one replica carries 100 / 12 of them at its target (70 % of its capacity), so that shapes and not
sizes differ. An hour-long trace is repeated under a daily wave. Figures are means over the seeds; a table tells whom it beats
where. A stalled volume under a service tells whether GPUs are added that would not help. `--bound` runs nothing but who knows
the rate and not the noise, beside the oracle. `--quick` runs half a day of a synthetic load and the stall.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiops.logs import quiet
from aiops.sim.baselines.catalogue import BASELINES
from aiops.sim.baselines.rate import KnownRate
from aiops.sim.cluster.drive import Stage, run_policies, run_scalers
from aiops.sim.cluster.report import simulate, stage_of, told
from aiops.sim.cluster.scenario import Scenario
from aiops.workers import prepare_worker

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
MEAN_RATE, MEAN_REPLICAS = 100.0, 12
LLM = {"latency": 1.2, "slo": 2.5, "cold_start": {"p50": 21, "p90": 41}}
WEB = {"latency": 0.2, "slo": 1.0, "cold_start": {"p50": 10, "p90": 10}}
HISTORY_DAYS = 7.5


def nothing(share: float) -> None:
    """Progress that nobody watches."""


@contextmanager
def silent(what: str) -> Iterator[Any]:
    yield nothing


def scenario(name: str, kind: dict[str, Any], days: float, **more: Any) -> Scenario:
    right = MEAN_RATE / MEAN_REPLICAS
    service = {"name": "s", "pool": "p", "gpus_per_replica": 1, "capacity": right / 0.7, "max_replicas": 800, **kind}
    pool = {"name": "p", "gpu_type": "H100", "nodes": 100, "gpus": 8}
    fields = {"name": name, "history": HISTORY_DAYS * 86400, "length": days * 86400, "pools": [pool], "services": [service]}
    return Scenario(**{**fields, **more})


def nasa() -> pd.Series:
    frame = pd.read_csv(DATA / "web_requests" / "nasa_1min.csv.gz")
    return pd.Series(frame["requests"].to_numpy(float), index=frame["t_s"])


def servegen(model: str) -> pd.Series:
    frame = pd.read_csv(DATA / "servegen_2025" / "model_rps_10min.csv.gz")
    mine = frame[frame["model"] == model]
    return pd.Series(mine["rps"].to_numpy(float) * 600, index=mine["t_s"])


def tiled(path: str) -> pd.Series:
    """Ten days of an hour's minutes, under a wave of +-50 % with its top at 15:00."""
    minutes = pd.read_csv(DATA / path)["requests"].to_numpy(float)[:-1]
    at = np.arange(10 * 1440)
    return pd.Series(minutes[at % len(minutes)] * (1 - 0.5 * np.cos(2 * np.pi * (at / 1440 - 0.125))), index=60 * at)


SPARES = (0.0, 1.5, 3.0, 4.5)
"""Roots of the load that are kept free for chance."""

TRACES: dict[str, Any] = {
    "nasa": (nasa, WEB),
    "servegen m-small": (lambda: servegen("m-small"), LLM),
    "servegen m-mid": (lambda: servegen("m-mid"), LLM),
    "azure conversations": (lambda: tiled("azure_llm_2023/conv_1min.csv.gz"), LLM),
    "mooncake": (lambda: tiled("mooncake_2024/conversation_1min.csv.gz"), LLM),
}


def on_trace(name: str, days: float, seed: int) -> dict[str, Any]:
    """The report of one trace: its first days are history, the next ones are simulated."""
    return simulate(stage_on(name, days, seed), tuple(BASELINES), name, silent)


def stage_on(name: str, days: float, seed: int) -> Stage:
    """What every run on one trace shares."""
    load, kind = TRACES[name]
    requests = load()
    step = float(np.median(np.diff(requests.index)))
    requests = requests * (MEAN_RATE * step / requests.mean())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        kept = requests[requests.index < (HISTORY_DAYS + days) * 86400]
        frame = pd.DataFrame({"time": kept.index, "service": "s", "requests": kept.to_numpy()})
        frame.to_csv(path, index=False)
        return stage_of(scenario(name, kind, days), path, seed)


def bounds(name: str, days: float, seed: int) -> list[dict[str, Any]]:
    """SLO minutes and replica-hours over the oracle's of who knows the rate and not the noise, by the room kept for it."""
    stage, rows = stage_on(name, days, seed), []
    oracle = told(stage, run_scalers(stage, BASELINES["oracle"], nothing))
    for spare in SPARES:
        run = told(stage, run_scalers(stage, lambda rates, lead_s, spare=spare: KnownRate(rates, spare), nothing))  # type: ignore[misc]
        beside = {"min": run["slo_violation_minutes"], "oracle min": oracle["slo_violation_minutes"]}
        over = round(run["replica_hours"] / oracle["replica_hours"], 3)
        rows.append(
            figure(f"{name} seed {seed}: rate known, {spare:g} roots to spare, hours over the oracle's", over, "", 1.15, beside)
        )
    return rows


def synthetic(seed: int) -> dict[str, Any]:
    """Half a day of bursts after half a day of history: too little to forecast from, and said so."""
    shape = {"service": "s", "mean": MEAN_RATE, "daily": 0.6, "bursts_per_day": 12, "burst": 0.8, "burst_length": 900}
    stage = stage_of(scenario("synthetic", LLM, 0.5, history=43200, load=[shape]), None, seed)
    return simulate(stage, tuple(BASELINES), "synthetic", silent)


def speed(seed: int) -> float:
    """Virtual seconds per second of the whole loop, real core and policy, on 100 nodes with 800 GPUs."""
    shape = {"service": "s", "mean": MEAN_RATE, "daily": 0.6, "bursts_per_day": 12, "burst": 0.8, "burst_length": 900}
    stage = stage_of(scenario("speed", LLM, 0.25, history=3600, load=[shape]), None, seed)
    began = time.perf_counter()
    run_policies(stage, (), "speed", nothing)
    return (stage.end - stage.start) / (time.perf_counter() - began)


STALLED = {"service": "s", "at": "1h", "length": "15m", "slowdown": 4}
STALLS: dict[str, dict[str, Any]] = {
    "requests, told after 60 s": {"diagnosed": 60},
    "in flight, told at once": {"in_flight": True, "diagnosed": 0},
    "in flight, told after 60 s": {"in_flight": True, "diagnosed": 60},
}
"""What the service's load counts, and when the diagnosis speaks: requests received do not rise, those in flight do."""


def stalled(seed: int) -> list[dict[str, Any]]:
    """Orders of more GPUs while a volume stalls for 15 minutes, beside the baselines and the policy that nobody tells."""
    rows, shape = [], {"service": "s", "mean": MEAN_RATE, "daily": 0.0}
    for name, how in STALLS.items():
        told, blind = (
            simulate(
                stage_of(scenario("stall", LLM, 0.1, history=3600, load=[shape], stalls=[STALLED | how | more]), None, seed),
                asked,
                "stall",
                silent,
            )
            for more, asked in (({}, ("hpa", "kpa", "aibrix")), ({"diagnosed": None}, ()))
        )
        beside = {other: run["scale_ups_in_stalls"] for other, run in told["baselines"].items()}
        beside["aiops without the diagnosis"] = blind["policies"]["prescale"]["scale_ups_in_stalls"]
        added = told["policies"]["prescale"]["scale_ups_in_stalls"]
        rows.append(figure(f"GPU scale-ups in a storage stall: {name}", added, "", 0, beside))
    return rows


TOLD = (("slo_violation_minutes", "min"), ("replica_hours", "h"), ("flaps_per_hour", "1/h"))


def means(reports: list[dict[str, Any]], key: str) -> dict[str, float]:
    """Mean of one figure over the seeds, of ours ("aiops") and of each baseline."""
    runs = [{"aiops": next(iter(one["policies"].values())), **one["baselines"]} for one in reports]
    return {name: round(float(np.mean([run[name][key] for run in runs])), 3) for name in runs[0]}


def figures(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of one trace over its seeds; a goal that others set is theirs in the same runs."""
    name, rows = reports[0]["scenario"], []
    for key, unit in TOLD:
        mean = means(reports, key)
        rows.append(figure(f"{name}: {key}", mean.pop("aiops"), unit, mean["hpa"], mean))
    hours = means(reports, "replica_hours")
    over = {other: round(value / hours["oracle"], 3) for other, value in hours.items()}
    rows.append(figure(f"{name}: replica-hours over the oracle's", over.pop("aiops"), "ratio", 1.15, over))
    broken = sum(next(iter(one["policies"].values()))["invariant_violations"] for one in reports)
    rows.append(figure(f"{name}: invariant violations", broken, "", 0, {}))
    return rows


def verdict(ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    """Who is better in SLO minutes and replica-hours; "-" where each is better in one."""
    if ours == theirs:
        return "tie"
    if all(a <= b for a, b in zip(ours, theirs, strict=True)):
        return "won"
    return "LOST" if all(a >= b for a, b in zip(ours, theirs, strict=True)) else "-"


def standings(traces: dict[str, list[dict[str, Any]]]) -> None:
    """The table of wins and losses: per trace and rival, means over the seeds, and on how many seeds it was won or lost."""
    for name, reports in traces.items():
        minutes, hours = means(reports, "slo_violation_minutes"), means(reports, "replica_hours")
        print(f"{name:<22} aiops {minutes['aiops']:6.2f} min {hours['aiops']:6.1f} h, {len(reports)} seeds")
        for other in reports[0]["baselines"]:
            both = []
            for one in reports:
                run = (next(iter(one["policies"].values())), one["baselines"][other])
                both.append(verdict(*((r["slo_violation_minutes"], r["replica_hours"]) for r in run)))
            each = ", ".join(f"{word} {both.count(word)}" for word in ("won", "tie", "-", "LOST") if word in both)
            print(f"  {other:<20} {minutes[other]:6.2f} min {hours[other]:6.1f} h   {each}")


def figure(name: str, value: float, unit: str, goal: float, baseline: dict[str, float]) -> dict[str, Any]:
    return {"figure": name, "value": value, "unit": unit, "goal": goal, "better": "lower", "baseline": baseline}


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        met = row["value"] >= row["goal"] if row["better"] == "higher" else row["value"] <= row["goal"]
        beside = ", ".join(f"{name} {value:g}" for name, value in row["baseline"].items())
        said = "met " if met else "MISS"
        print(f"{said} {row['figure']:<48} {row['value']:>10.6g} {row['unit']:<6} goal {row['goal']:<8g} {beside}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--trace", action="append", choices=list(TRACES))
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bound", action="store_true")
    asked = parser.parse_args()
    quiet()
    prepare_worker()
    rows: list[dict[str, Any]] = []

    def tell(found: list[dict[str, Any]]) -> None:
        rows.extend(found)
        show(found)

    if asked.bound:
        for name in asked.trace or TRACES:
            tell([row for seed in range(asked.seeds) for row in bounds(name, asked.days, seed)])
        return
    tell([{**figure("speed on 100 nodes", round(speed(0)), "x", 1000, {}), "better": "higher"}])
    if not asked.trace:
        tell(stalled(0))
        tell(figures([synthetic(0)]))
    if not DATA.is_dir():
        print("request traces: skipped, ../shared/data is not there")
    traces: dict[str, list[dict[str, Any]]] = {}
    for name in () if asked.quick or not DATA.is_dir() else asked.trace or TRACES:
        traces[name] = [on_trace(name, asked.days, seed) for seed in range(asked.seeds)]
        tell(figures(traces[name]))
    standings(traces)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How fast the interface answers: a 10,000-point series and /metrics, beside FastAPI's own JSON of the same data.

    python bench/api.py [--quick] [--json OUT]

Requests go through the whole application (guard, routing, compression off) in this process, one at a time, so that the
figure is the server's own cost; the baseline is the same points as a FastAPI response of one [time, value] pair each,
through the same transport in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "api"))

from api_house import LOAD, NOW, House, seeded

POINTS = 10_000


def house_of(points: int) -> House:
    """A house with one series of `points` raw points: what is measured is the interface, not the store behind it."""
    house = House()
    times = NOW - points + 1 + np.arange(float(points))
    house.store.series[LOAD] = (times, 100 + 10 * np.sin(times / 300))
    return house


def plain(house: House) -> FastAPI:
    """What one would write first: dictionaries, FastAPI's default response, a plain `def` route."""
    app = FastAPI()
    times, values = house.store.series[LOAD]

    @app.get("/series")
    def series() -> Any:
        return {"metric": LOAD.metric, "values": [[float(t), float(v)] for t, v in zip(times, values, strict=True)]}

    return app


async def timed(app: Any, path: str, seconds: float) -> list[float]:
    """Seconds of each request during `seconds`, after three that do not count."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for _ in range(3):
            (await client.get(path, headers={"Accept-Encoding": "identity"})).raise_for_status()
        took, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            await client.get(path, headers={"Accept-Encoding": "identity"})
            took.append(time.perf_counter() - start)
    return took


def row(figure: str, value: float, unit: str, goal: float | None, better: str, baseline: dict[str, float]) -> dict[str, Any]:
    return {"figure": figure, "value": value, "unit": unit, "goal": goal, "better": better, "baseline": baseline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    seconds = 4.0 if chosen.quick else 15.0
    house, busy = house_of(POINTS), House(store=seeded())
    data = f"/api/v1/series/data?metric={LOAD.metric}&match=service=chat&window={POINTS}s"
    ours = asyncio.run(timed(house.app(), data, seconds))
    theirs = asyncio.run(timed(plain(house), "/series", seconds))
    scrape = asyncio.run(timed(busy.app(), "/metrics", seconds))
    health = asyncio.run(timed(busy.app(), "/-/healthy", seconds))
    name = f"{POINTS:,}-point series"
    rate = [len(took) / sum(took) for took in (ours, theirs, scrape, health)]
    p95 = [float(np.quantile(took, 0.95)) * 1000 for took in (ours, theirs, scrape, health)]
    rows = [
        row(f"{name}: requests", rate[0], "1/s", 3 * rate[1], "higher", {"FastAPI default JSON": rate[1]}),
        row(f"{name}: p95", p95[0], "ms", p95[1] / 3, "lower", {"FastAPI default JSON": p95[1]}),
        row("/metrics: requests", rate[2], "1/s", None, "higher", {"/-/healthy through the same app": rate[3]}),
        row("/metrics: p95", p95[2], "ms", 100.0, "lower", {"/-/healthy through the same app": p95[3]}),
    ]
    for one in rows:
        baseline = ", ".join(f"{label} {value:,.1f}" for label, value in one["baseline"].items())
        missed = one["goal"] is not None and (one["value"] < one["goal"]) is (one["better"] == "higher")
        goal = "" if one["goal"] is None else f"  goal {one['goal']:,.1f}{'  MISS' if missed else ''}"
        print(f"{one['figure']:<32}{one['value']:>10,.1f} {one['unit']:<4} ({baseline}){goal}")
    print(f"n = {len(ours)}, {len(theirs)}, {len(scrape)}, {len(health)} requests")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

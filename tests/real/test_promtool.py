"""`promtool check metrics` over everything that /metrics can say: the whole catalogue and our own figures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from api_house import NOW, Client, House, seeded

from aiops.api import samples
from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)"),
]


def test_promtool_finds_nothing_to_say() -> None:
    house = House(store=seeded())
    for row in CATALOGUE.values():
        if not row.name.startswith(samples.OURS):
            key = SeriesKey.of(row.name, **dict.fromkeys((*row.labels, "node"), "x"))
            house.store.series[key] = (np.array([NOW - 1.0]), np.array([1.0]))
    client = Client(house)
    client.get("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=client.get("/metrics").text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

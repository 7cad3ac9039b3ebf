"""Refreshing beside the loop: every target gets a row, whatever happens to the fit."""

from dataclasses import replace

import numpy as np
import pytest

from aiops import refresh
from aiops.model import Query, Series, SeriesKey
from aiops.refresh import Plan, Refresher

NOW = 1_700_000_100.0
KEY = SeriesKey.of("requests", service="web")


class Shelf:
    """A store of two series that remembers what was put."""

    def __init__(self, days: float = 3.0):
        times = np.arange(NOW - days * 86400, NOW, 300.0)
        self.series = (Series(key=KEY, times=times, values=100 + 50 * np.sin(2 * np.pi * times / 86400)),)
        self.forecasts_put, self.findings_put = [], []

    def read(self, query, now):
        return tuple(replace(s) for s in self.series if s.key.metric == query.metric)

    def put_forecasts(self, forecasts):
        self.forecasts_put += forecasts

    def put_findings(self, at, findings):
        self.findings_put.append((at, tuple(findings)))


@pytest.fixture
def refresher():
    made = Refresher(Shelf(), Plan(timeout_s=60))
    yield made
    made.close()


def asks():
    return [Query(metric="requests", window_s=1)]


def test_a_refresh_stores_one_row_per_series_from_a_worker(refresher):
    (made,) = refresher.forecasts(NOW, asks())
    assert refresher.shelf.forecasts_put == [made]
    assert made.target == str(KEY)
    assert made.made_at <= NOW < made.times[0] + 300
    assert made.values.shape == (4, 6)
    assert np.isfinite(made.values).all()


def test_nothing_found_is_nothing_stored(refresher):
    assert refresher.forecasts(NOW, [Query(metric="other", window_s=1)]) == ()


def hang(panel, plan):
    while True:
        pass


def crash(panel, plan):
    raise RuntimeError("stan")


@pytest.mark.parametrize(("fit", "reason"), [(hang, "fit timed out"), (crash, "fit failed: RuntimeError")])
def test_a_fit_that_hangs_or_fails_falls_back_and_says_so(monkeypatch, fit, reason):
    monkeypatch.setattr(refresh, "compute", fit)
    refresher = Refresher(Shelf(), Plan(timeout_s=8))
    try:
        (made,) = refresher.forecasts(NOW, asks())
    finally:
        refresher.close()
    assert made.refused == reason
    assert made.model == f"last_value(fallback: {reason})"
    assert np.isfinite(made.values).all()

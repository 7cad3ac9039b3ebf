"""`aiops forecast` on files: the format, the leak check, and odd input."""

import csv
from pathlib import Path

import numpy as np
import pytest

from aiops.cli.forecast import forecast
from aiops.errors import UserError
from aiops.forecast import regression

DAY = 86400


@pytest.fixture(autouse=True)
def small_trees(monkeypatch):
    """Ten rounds of boosting: these tests are about format, leaks and odd input, not about accuracy."""
    monkeypatch.setattr(regression, "ROUNDS", 10)


def write(path: Path, series: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    lines = [
        f"{t:.0f},{name},{'' if np.isnan(v) else repr(float(v))}"
        for name, (ts, vs) in series.items()
        for t, v in zip(ts, vs, strict=True)
    ]
    path.write_text("time,series,value\n" + "\n".join(lines) + "\n")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def daily(days: float, step: float = 600.0, seed: int = 0, start: float = 20_000 * DAY):
    times = start + np.arange(0, days * DAY, step)
    noise = np.random.default_rng(seed).normal(0, 5, len(times))
    return times, 100 + 40 * np.sin(2 * np.pi * times / DAY) + noise


@pytest.fixture(scope="module")
def two_series(tmp_path_factory):
    return write(tmp_path_factory.mktemp("in") / "in.csv", {"a": daily(4), "b": daily(4, seed=1)})


def run(path: Path, out: Path, **flags) -> list[dict[str, str]]:
    forecast(path, out=out, **flags)
    return read(out)


def test_one_row_per_series_origin_and_step_in_the_public_format(two_series, tmp_path):
    rows = run(two_series, tmp_path / "o.csv", step="10m", as_of=["2024-10-07T00:00:00Z", str(20_003.5 * DAY)])
    assert list(rows[0]) == ["series", "origin", "time", "q0.05", "q0.5", "q0.9", "q0.95", "model", "skill"]
    assert len(rows) == 2 * 2 * 3
    assert rows[0]["origin"] == "2024-10-07T00:00:00Z"
    assert [row["time"] for row in rows[:3]] == [f"2024-10-07T00:{m}:00Z" for m in (30, 20, 10)]
    for row in rows:
        band = [float(row[f"q{q}"]) for q in ("0.05", "0.5", "0.9", "0.95")]
        assert band == sorted(band)
        assert band[0] >= 0


def test_cutting_the_future_off_changes_nothing_and_runs_repeat_byte_for_byte(two_series, tmp_path):
    origin = 20_003.25 * DAY
    times, _ = daily(4)
    cut = write(tmp_path / "cut.csv", {n: tuple(x[times <= origin] for x in daily(4, seed=s)) for n, s in (("a", 0), ("b", 1))})
    whole = run(two_series, tmp_path / "1.csv", step="10m", as_of=[str(origin), str(origin + 36_000)])
    run(two_series, tmp_path / "2.csv", step="10m", as_of=[str(origin), str(origin + 36_000)])
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert [r for r in whole if r["origin"] == whole[0]["origin"]] == run(cut, tmp_path / "3.csv", step="10m")


def odd_series() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    times, values = daily(3)
    gappy = np.where(np.random.default_rng(3).random(len(times)) < 0.5, np.nan, values)
    return {
        "all zero": (times, np.zeros(len(times))),
        "constant": (times, np.full(len(times), 7.0)),
        "five points": (times[-5:], values[-5:]),
        "one point": (times[-1:], values[-1:]),
        "half missing": (times, gappy),
        "outage": (times, np.where((times > times[200]) & (times < times[300]), 0.0, values)),
        "level shift": (times, values + 1000.0 * (times > times[-30])),
        "negative": (times, values - 100),
        "huge": (times, values * 1e15),
        "silent since yesterday": (times[:-150], values[:-150]),
        "uneven steps": (times + np.random.default_rng(4).uniform(0, 500, len(times)).round(), values),
    }


def test_odd_series_all_get_a_row_that_is_finite_and_says_what_it_is(tmp_path):
    rows = run(write(tmp_path / "odd.csv", odd_series()), tmp_path / "o.csv", step="10m", as_of=[str(daily(3)[0][-1])])
    by_name = {row["series"]: row for row in rows}
    assert set(by_name) == set(odd_series())
    for name, row in by_name.items():
        band = [float(row[f"q{q}"]) for q in ("0.05", "0.5", "0.9", "0.95")]
        assert np.isfinite(band).all()
        assert band == sorted(band)
        assert name == "negative" or band[0] >= 0
    assert by_name["all zero"]["q0.95"] == "0.0"
    assert by_name["constant"]["q0.05"] == by_name["constant"]["q0.95"] == "7.0"
    assert by_name["five points"]["model"] == "last_value(fallback: 5 points)"
    assert "no recent point" in by_name["silent since yesterday"]["model"]


@pytest.mark.parametrize("model", ["last_value", "seasonal_naive", "last_week_max", "boosting"])
def test_a_named_model_answers_for_itself_or_says_who_did(two_series, tmp_path, model):
    rows = run(two_series, tmp_path / "o.csv", step="10m", model=model)
    expected = {"last_week_max": "last_value(fallback: nothing known of last week's next 30 minutes)"}
    assert {row["model"] for row in rows} == {expected.get(model, model)}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"horizon": "soon"}, "--horizon: expected a duration"),
        ({"horizon": "-5m"}, "--horizon: expected a duration above zero"),
        ({"horizon": "1000d", "step": "1s"}, "at most 10000 steps"),
        ({"quantiles": "0.5,2"}, "--quantiles: expected numbers between 0 and 1"),
        ({"quantiles": "high"}, "--quantiles: expected numbers"),
        ({"as_of": ["noon"]}, "--as-of: expected an ISO 8601 time"),
        ({"as_of": ["1970-01-01"]}, "--as-of: expected a time from"),
        ({"model": "oracle"}, "--model: expected auto or one of"),
        ({"plot": Path("x.gif")}, "--plot: expected a .png or .html"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_no_file(two_series, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        forecast(two_series, out=tmp_path / "o.csv", **flags)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"), [("time,series,value\n", "at least one row"), ("time,series,value\n0,a,\n", "at least one value")]
)
def test_a_file_without_values_is_refused(tmp_path, text, words):
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        forecast(tmp_path / "in.csv")


def test_pictures_are_drawn(two_series, tmp_path):
    run(two_series, tmp_path / "o.csv", step="10m", model="last_value", plot=tmp_path / "p.png")
    run(two_series, tmp_path / "o.csv", step="10m", model="last_value", plot=tmp_path / "p.html")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in (tmp_path / "p.html").read_text()

"""Prophet on real timestamps: trend, daily and weekly terms where the history allows them, holidays and known events.

The fit is Prophet's; what it learnt is kept as plain numbers (`Shape`), so that it can cross processes, be evaluated in
microseconds and warm-start the next fit without its frames or its Stan backend. Terms run on the wall clock of `zone`, so
that a daily peak stays at nine o'clock when the clocks change. At 15-30 minutes Prophet alone loses to the last value: on
busy series it earns its cost through `ProphetCorrected`, which adds a short-term model of its recent residuals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from aiops.forecast.bands import RECENT_S, error_quantiles, settle_band
from aiops.model import Floats, SeriesKey
from aiops.ports import Grid

DAY_S = 86400.0
TERMS: tuple[tuple[float, int, float], ...] = ((1.0, 8, 2.0), (7.0, 3, 14.0))
"""Period in days, Fourier order, days of history it needs: a weekly term learnt from one week hurts (policy rule 3)."""

FIT_DAYS = 28.0
"""Days of history that a fit sees: fits grow linearly with it and 15-30 minutes ahead forget the rest."""

MIN_POINTS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When things are known to happen: time zone, holiday country (ISO code, empty for none), events as (name, start, end)."""

    zone: str = "UTC"
    country: str = ""
    events: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What Prophet learnt of one series, as plain numbers: y(t) = scale * (trend(t) + features(t) . beta)."""

    start: float
    span_s: float
    scale: float
    floor: float
    rate: float
    offset: float
    deltas: Floats
    changes: Floats
    beta: Floats
    periods: tuple[tuple[float, int], ...]
    calendar: Calendar

    def at(self, times: Floats) -> Floats:
        """(n,) the fitted curve at Unix times."""
        t = (times - self.start) / self.span_s
        passed = t[:, None] >= self.changes[None, :]
        slope = self.rate + passed @ self.deltas
        trend = slope * t + self.offset - passed @ (self.changes * self.deltas)
        features = design(times, self.periods, self.calendar)
        return np.asarray(self.floor + self.scale * (trend + features @ self.beta))


def local_days(times: Floats, zone: str) -> Floats:
    """Wall-clock days since 1970-01-01 in `zone`, for (n,) Unix times."""
    import pandas

    stamps = pandas.to_datetime(times, unit="s", utc=True).tz_convert(zone).tz_localize(None)
    return np.asarray(stamps.as_unit("ns").astype(np.int64) / 1e9 / DAY_S)


def design(times: Floats, periods: Sequence[tuple[float, int]], calendar: Calendar) -> Floats:
    """(n, features): Fourier terms per period, then one column for holidays and one per named event."""
    days = local_days(times, calendar.zone)
    columns: list[Floats] = []
    for period, order in periods:
        for n in range(1, order + 1):
            angle = 2 * np.pi * n * days / period
            columns += [np.sin(angle), np.cos(angle)]
    columns += calendar_columns(times, days, calendar)
    return np.stack(columns, axis=1) if columns else np.zeros((len(times), 0))


def calendar_columns(times: Floats, days: Floats, calendar: Calendar) -> list[Floats]:
    """One 0/1 column for public holidays (local dates) where a country is set, and one per distinct event name."""
    columns = []
    if calendar.country:
        import holidays
        from pandas import Timestamp

        years = range(1970 + int(days.min() // 366), 1971 + int(days.max() // 365))
        dates = holidays.country_holidays(calendar.country, years=years)
        off = np.array([(Timestamp(date) - Timestamp(0)).days for date in dates], dtype=np.float64)
        columns.append(np.isin(np.floor(days), off).astype(np.float64))
    for name in sorted({event[0] for event in calendar.events}):
        inside = [(times >= start) & (times < end) for label, start, end in calendar.events if label == name]
        columns.append(np.any(inside, axis=0).astype(np.float64))
    return columns


def periods_for(span_s: float) -> tuple[tuple[float, int], ...]:
    """The seasonal terms that `span_s` of history allows."""
    return tuple((period, order) for period, order, needs in TERMS if span_s >= needs * DAY_S)


def fit_shape(grid: Grid, calendar: Calendar, previous: Shape | None = None) -> Shape:
    """Fit Prophet to one series. ValueError with too few points; whatever Prophet raises goes to the caller's wall."""
    values = grid.values[-int(FIT_DAYS * DAY_S / grid.step_s) :]
    times = grid.end - grid.step_s * np.arange(len(values) - 1, -1, -1.0)
    keep = np.isfinite(values)
    times, values = times[keep], values[keep]
    if len(values) < MIN_POINTS or np.ptp(values) == 0:
        raise ValueError("too few points for a fit" if len(values) < MIN_POINTS else "constant")
    periods = periods_for(float(times[-1] - times[0]))
    features = design(times, periods, calendar)
    model = _run_prophet(times, values, features, _warm(previous, features.shape[1]))
    p = {name: np.asarray(value)[0] for name, value in model.params.items()}
    start, span_s = model.start.timestamp(), model.t_scale.total_seconds()
    return Shape(
        start=float(start),
        span_s=float(span_s),
        scale=float(model.y_scale),
        floor=float(getattr(model, "y_min", 0.0) or 0.0),
        rate=float(p["k"].squeeze()),
        offset=float(p["m"].squeeze()),
        deltas=np.atleast_1d(p["delta"]),
        changes=np.asarray(model.changepoints_t, dtype=np.float64),
        beta=np.atleast_1d(p["beta"])[: features.shape[1]],
        periods=periods,
        calendar=calendar,
    )


def _run_prophet(times: Floats, values: Floats, features: Floats, init: dict[str, Any] | None) -> Any:
    import pandas
    from prophet import Prophet

    model = Prophet(
        yearly_seasonality=False, weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0, n_changepoints=15
    )
    names = [f"x{i}" for i in range(features.shape[1])]
    for name in names:
        model.add_regressor(name, standardize=False)
    frame = pandas.DataFrame(features, columns=names)
    frame["ds"], frame["y"] = pandas.to_datetime(times, unit="s"), values
    try:
        return model.fit(frame, seed=1, **({"init": init} if init else {}))
    finally:
        if model.stan_backend is not None:
            model.stan_backend.cleanup()  # each fit leaves 52 KB of temporary files


def _warm(previous: Shape | None, width: int) -> dict[str, Any] | None:
    if previous is None or len(previous.beta) != width or not width or len(previous.deltas) != 15:
        return None
    return {
        "k": previous.rate,
        "m": previous.offset,
        "delta": previous.deltas,
        "beta": previous.beta,
        "sigma_obs": 0.1,
    }


@dataclass(frozen=True, slots=True)
class Curve:
    """Prophet's shapes of a panel; a prediction is the curve, with the quantiles of its recent residuals as the band."""

    shapes: Mapping[SeriesKey, Shape]

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps); ValueError for a series that was not fitted."""
        curve, residuals = _residuals(self.shapes, history, steps)
        return settle_band(curve[None, :] + error_quantiles(residuals, quantiles)[:, None], history.values)


@dataclass(frozen=True, slots=True)
class CorrectedCurve:
    """The curve plus what is left of its recent residuals `h` steps on, by ridge regression on them."""

    shapes: Mapping[SeriesKey, Shape]

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps); ValueError for a series that was not fitted or whose newest point is missing."""
        curve, residuals = _residuals(self.shapes, history, steps)
        lags = np.lib.stride_tricks.sliding_window_view(residuals, 3) if len(residuals) > 24 else np.empty((0, 3))
        if not len(lags) or not np.isfinite(lags[-1]).all():
            raise ValueError("no recent residuals to correct by")
        band = np.empty((len(quantiles), steps))
        for h in range(1, steps + 1):
            x, y = lags[:-h], residuals[2 + h :]
            keep = np.isfinite(x).all(axis=1) & np.isfinite(y)
            weights = _ridge(x[keep], y[keep])
            errors = y[keep] - x[keep] @ weights
            band[:, h - 1] = curve[h - 1] + lags[-1] @ weights + error_quantiles(errors, quantiles)
        return settle_band(band, history.values)


def _residuals(shapes: Mapping[SeriesKey, Shape], history: Grid, steps: int) -> tuple[Floats, Floats]:
    shape = shapes.get(history.key)
    if shape is None:
        raise ValueError("not fitted")
    recent = history.values[-int(RECENT_S / history.step_s) :]
    times = history.end + history.step_s * np.arange(1 - len(recent), steps + 1, dtype=np.float64)
    curve = shape.at(times)
    return curve[len(recent) :], recent - curve[: len(recent)]


def _ridge(x: Floats, y: Floats) -> Floats:
    penalty = 1e-3 * max(float(np.mean(x**2)), 1e-12) * len(x)
    return np.asarray(np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y))


@dataclass(frozen=True, slots=True)
class ProphetModel:
    """Prophet alone. `warm` holds the shapes of an earlier fit to start from."""

    name: ClassVar[str] = "prophet"
    calendar: Calendar = field(default_factory=Calendar)
    warm: Mapping[SeriesKey, Shape] = field(default_factory=dict)

    def fit(self, panel: Sequence[Grid]) -> Curve:
        """A curve per series; one whose fit fails is left out, and its prediction says so."""
        return Curve(fit_shapes(panel, self.calendar, self.warm))


@dataclass(frozen=True, slots=True)
class ProphetCorrected:
    """Prophet plus a short-term model of its recent residuals."""

    name: ClassVar[str] = "prophet_ar"
    calendar: Calendar = field(default_factory=Calendar)
    warm: Mapping[SeriesKey, Shape] = field(default_factory=dict)

    def fit(self, panel: Sequence[Grid]) -> CorrectedCurve:
        """As ProphetModel."""
        return CorrectedCurve(fit_shapes(panel, self.calendar, self.warm))


def fit_shapes(panel: Sequence[Grid], calendar: Calendar, warm: Mapping[SeriesKey, Shape]) -> dict[SeriesKey, Shape]:
    """Shapes of all series that Prophet could fit."""
    shapes = {}
    for grid in panel:
        try:
            shape = fit_shape(grid, calendar, warm.get(grid.key))
        except Exception:  # noqa: S112 - the wall around one fit: Stan fails in many ways, and the fallback says so
            continue
        if np.isfinite(shape.beta).all() and np.isfinite([shape.rate, shape.offset]).all():
            shapes[grid.key] = shape
    return shapes

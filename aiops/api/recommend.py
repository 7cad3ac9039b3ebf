"""From a forecast to a number of replicas, for consumers that scale by our figure (KEDA, /metrics).

Fails closed: whatever is missing, old, refused or out of reach is a named problem, never zero. KEDA reads an empty answer
as zero and would scale to nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aiops.api.problem import stale
from aiops.model import Forecast, Service

QUANTILE = 0.9  # capacity for nine of ten futures; `policies/prescale` argues the same way
HORIZON_S = 600.0
PERIODS = 3  # a forecast that missed two refreshes is stale
SKEW_S = 60.0  # a forecast made a minute ahead is clock skew; more is a wrong clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Which future is asked for: the largest value of `quantile` from now to `horizon_s` ahead."""

    horizon_s: float = HORIZON_S
    quantile: float = QUANTILE
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The load foreseen, and the replicas that carry it within the service's own bounds."""

    value: float
    replicas: int


def advise(service: Service, forecast: Forecast | None, ask: Ask, now: float) -> Advice:
    """Replicas for `service`: ceil(load / target per replica), within its bounds. Raises a 503 problem with its reason."""
    trusted = _trusted(service, forecast, ask, now)
    starts = np.concatenate([[trusted.made_at], trusted.times[:-1]])[: len(trusted.times)]
    ahead = (trusted.times > now) & (starts <= now + ask.horizon_s)  # a point is the mean of the step that ends at its time
    reach = float(trusted.times[-1]) if len(trusted.times) else 0.0
    if not ahead.any() or reach < now + ask.horizon_s - _spacing(trusted):
        raise stale("forecast_too_short", f"the forecast does not reach {ask.horizon_s:g} s ahead")
    value = float(np.max(trusted.at_quantile(ask.quantile)[ahead]))
    if not math.isfinite(value) or value < 0:
        raise stale("forecast_absurd", f"the forecast load {value:g} is not a load")
    wanted = math.ceil(min(value / service.target, 1e9) - 1e-9)
    return Advice(value=value, replicas=max(service.min_replicas, min(service.max_replicas, wanted)))


def _trusted(service: Service, forecast: Forecast | None, ask: Ask, now: float) -> Forecast:
    if not (math.isfinite(service.target) and service.target > 0):
        raise stale("no_target", f"service {service.name} declares no load per replica")
    if forecast is None:
        raise stale("no_forecast", f"there is no forecast of {service.load}")
    if forecast.refused is not None:
        raise stale("forecast_refused", f"the forecast may not be acted upon: {forecast.refused}")
    if forecast.quantiles[-1] < ask.quantile:
        raise stale("forecast_too_narrow", f"the forecast has no quantile above {forecast.quantiles[-1]:g}")
    if not fresh(forecast, now, ask.max_age_s):
        age = now - forecast.made_at
        raise stale("forecast_stale", f"the newest forecast is {age:.0f} s old, at most {ask.max_age_s:.0f} s are allowed")
    return forecast


def fresh(forecast: Forecast, now: float, max_age_s: float) -> bool:
    """Whether a forecast is of now: neither old nor of a clock that was wrong."""
    return -SKEW_S <= now - forecast.made_at <= max_age_s


def _spacing(forecast: Forecast) -> float:
    return float(forecast.times[1] - forecast.times[0]) if len(forecast.times) > 1 else 0.0

"""How this daemon forecasts: the `forecast` section of the settings, and the frozen `Plan` made of it.

The plan goes to the workers with every task. Knows the models' calendar and question, nothing of stores or processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from aiops.forecast.gate import QUANTILES
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar
from aiops.settings import Seconds, Section, invalid

LONGEST_GRID = 50_000
"""Points of one series that a fit may see: a month at minute steps; more is a unit by mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to forecast: horizon, step, history, quantiles, calendar, and how long a worker may take."""

    horizon_s: float = 1800.0
    step_s: float = 300.0
    history_s: float = 14 * 86400.0
    quantiles: tuple[float, ...] = QUANTILES
    calendar: Calendar = field(default_factory=Calendar)
    timeout_s: float = 200.0
    refit_s: float = 86400.0
    prophet_series: int = 64

    @property
    def steps(self) -> int:
        """Grid points ahead."""
        return max(1, round(self.horizon_s / self.step_s))

    @property
    def ask(self) -> Ask:
        """The plan as the models know it."""
        return Ask(step_s=self.step_s, steps=self.steps, quantiles=np.array(sorted(self.quantiles)))


def instant(value: object) -> float:
    """Unix seconds from a number, a date or ISO 8601 text, UTC where no zone is given; ValueError says what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        found = datetime.fromisoformat(str(value).strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-11-27T09:00+08:00 or Unix seconds") from None


Instant = Annotated[float, BeforeValidator(instant), Field(ge=0, lt=1e11)]


class Event(Section):
    """Something known to change the load: events of one name share one effect."""

    name: str = Field(min_length=1, max_length=80)
    start: Instant
    end: Instant

    @field_validator("end")
    @classmethod
    def _after(cls, end: float, so_far: ValidationInfo) -> float:
        if end <= so_far.data.get("start", 0.0):
            raise ValueError("expected a time after start")
        return end


class Foresight(Section):
    """The `forecast` section: keys and defaults are documented in docs/configuration.md."""

    step: Seconds = 300.0
    horizon: Annotated[Seconds, Field(le=86400.0)] = 1800.0
    history: Seconds = 14 * 86400.0
    refit: Annotated[Seconds, Field(ge=3600.0)] = 86400.0
    timeout: Annotated[Seconds, Field(le=3600.0)] = 200.0
    prophet_series: int = Field(default=64, ge=0, le=10_000)
    workers: int = Field(default=1, ge=1, le=256)
    scheduler: str = ""
    zone: str = "UTC"
    country: str = ""
    events: tuple[Event, ...] = Field(default=(), max_length=1000)

    @field_validator("horizon")
    @classmethod
    def _whole_steps(cls, horizon: float, so_far: ValidationInfo) -> float:
        step = so_far.data.get("step", horizon)
        if horizon < step or abs(horizon / step - round(horizon / step)) > 1e-6:
            raise ValueError(f"expected a multiple of step ({step:g} s)")
        return horizon

    @field_validator("history")
    @classmethod
    def _long_enough(cls, history: float, so_far: ValidationInfo) -> float:
        step = so_far.data.get("step", 300.0)
        if not 86400.0 <= history <= LONGEST_GRID * step:
            raise ValueError(f"expected between 1d and {LONGEST_GRID * step / 86400:.0f}d, {LONGEST_GRID} steps of {step:g} s")
        return history

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected a time zone such as UTC or Europe/Berlin") from None
        return zone

    @field_validator("country")
    @classmethod
    def _known_country(cls, country: str) -> str:
        if country:
            from holidays import list_supported_countries

            if country not in list_supported_countries():
                raise ValueError("expected an ISO country code such as DE or CN, or nothing")
        return country

    @field_validator("scheduler")
    @classmethod
    def _address(cls, scheduler: str) -> str:
        if scheduler and not scheduler.startswith(("tcp://", "tls://")):
            raise ValueError("expected the address of a Dask scheduler such as tcp://10.0.0.5:8786")
        return scheduler

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Foresight:
        """The section validated. ConfigError names file, key and what was expected for the first thing wrong."""
        try:
            return cls(**section)
        except ValidationError as error:
            raise invalid(error, where, "forecast") from None

    @property
    def plan(self) -> Plan:
        """What the refresher and its workers are told."""
        return Plan(
            horizon_s=self.horizon,
            step_s=self.step,
            history_s=self.history,
            calendar=Calendar(
                zone=self.zone, country=self.country, events=tuple((e.name, e.start, e.end) for e in self.events)
            ),
            timeout_s=self.timeout,
            refit_s=self.refit,
            prophet_series=self.prophet_series,
        )

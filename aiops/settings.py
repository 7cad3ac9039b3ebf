"""One frozen `Settings`, read once: file < environment (`AIOPS_...`, `__` between levels) < flag.

Plug-in sections stay opaque here; each plug-in validates its own (`plugins.load`). Whatever is wrong becomes one
ConfigError that names the file, the dotted key and what was expected.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aiops.action import Mode
from aiops.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds(value: object) -> float:
    """Seconds from a number or a text such as `30s`, `5m`, `1.5h`, `7d`; ValueError says what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    unit = next((u for u in ("ms", "s", "m", "h", "d", "w") if text.endswith(u)), "")
    try:
        return float(text.removesuffix(unit)) * _UNITS.get(unit, 1.0)
    except ValueError:
        raise ValueError(f"a duration such as 30s, 5m, 12h or 7d, found {text!r}") from None


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, lt=1e10)]


class Section(BaseModel):
    """Base of every settings section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Listen(Section):
    """Where the API listens. A non-loopback host needs `token_file`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    token_file: Path | None = None


class StoreSettings(Section):
    """Database URL (default: SQLite in the data directory) and how long to keep things."""

    url: str | None = None
    samples: Seconds = 15 * 86400.0
    records: Seconds = 90 * 86400.0


class Route(Section):
    """How findings and decisions become notifications; names and defaults are Alertmanager's."""

    receiver: str
    group_by: tuple[str, ...] = ("alertname", "subject")
    group_wait: Seconds = 30.0
    group_interval: Seconds = 300.0
    repeat_interval: Seconds = 4 * 3600.0
    min_confidence: float = Field(default=0.5, ge=0, le=1)


class PolicySettings(BaseModel):
    """One policy: how far it may go, and its own opaque settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    mode: Mode = Mode.OBSERVE


class Every(Section):
    """Periods of the cycle and of the work beside it."""

    scrape: Seconds = 10.0
    tick: Seconds = 10.0
    forecast: Seconds = 300.0
    diagnose: Seconds = 30.0


class Settings(BaseSettings):
    """The whole configuration of one daemon."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="AIOPS_", env_nested_delimiter="__")

    cluster: str = Field(default="local", pattern=r"^\S([^\x00-\x1f\x7f]{0,62}\S)?$")
    data_dir: Path = Path("aiops-data")
    language: Literal["en", "zh-CN"] = "en"
    listen: Listen = Listen()
    store: StoreSettings = StoreSettings()
    every: Every = Every()
    backend: dict[str, dict[str, Any] | None] = Field(default={"local": {}}, min_length=1, max_length=1)
    collectors: dict[str, dict[str, Any] | None] = {
        name: {} for name in ("host", "network", "nvml", "pressure", "storage", "services", "jobs")
    }
    diagnosers: dict[str, dict[str, Any] | None] = {"causal": {}, "expiry": {}}
    policies: dict[str, PolicySettings] = {"prescale": PolicySettings()}
    limits: dict[str, Any] = {}
    forecast: dict[str, Any] = {}
    receivers: dict[str, dict[str, dict[str, Any]]] = {}
    route: Route | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment outranks the file; `read` passes the file as initial values and applies flags last."""
        return (env_settings, init_settings)


def read(path: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from file, environment and flags (dotted keys). Raises ConfigError, one line for the first problem."""
    raw = load_yaml(path) if path else {}
    where = str(path) if path else "environment"
    _known_environment(os.environ)
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        raise invalid(error, where) from None
    except SettingsError as error:  # a whole section in one variable is JSON
        raise ConfigError("environment", "", f"expected JSON: {error}") from None
    return settings.model_copy(update=_flag_updates(settings, flags or {}))


def _known_environment(environment: Iterable[str]) -> None:
    """Refuse a nested variable whose section is unknown, which pydantic would pass over; single words have other readers."""
    for name in environment:
        section, nested, _ = name.upper().removeprefix("AIOPS_").partition("__")
        if name.upper().startswith("AIOPS_") and nested and section.lower() not in Settings.model_fields:
            raise ConfigError(
                "environment", name, f"unknown key; expected AIOPS_ and one of: {', '.join(Settings.model_fields)}"
            )


def _flag_updates(settings: Settings, flags: Mapping[str, Any]) -> dict[str, Any]:
    updates: dict[str, Any] = {}
    for key, value in flags.items():
        section, _, field = key.partition(".")
        if value is None:
            continue
        current = updates.get(section, getattr(settings, section))
        try:
            updates[section] = type(current)(**{**current.model_dump(), field: value}) if field else value
        except ValidationError as error:
            raise invalid(error, "command line", section) from None
    return updates


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file; broken syntax, duplicate keys and other shapes raise ConfigError with the line."""
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), "", f"expected a readable file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "", "expected UTF-8 text") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}{_line(error)}", "", f"expected valid YAML: {_problem(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(str(path), "", "expected a mapping of names to values at the top level")
    return data


def _line(error: BaseException) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _problem(error: BaseException) -> str:
    text = str(getattr(error, "problem", None) or error or type(error).__name__)
    return text.splitlines()[0]


def invalid(error: ValidationError, where: str, prefix: str = "") -> ConfigError:
    """The first problem of a pydantic error as one ConfigError."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in ((prefix,) if prefix else ()) + tuple(first["loc"]))
    message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] in ("extra_forbidden", "missing") else f" (found {str(first['input'])[:60]!r})"
    return ConfigError(where, key, f"{message}{shown}")

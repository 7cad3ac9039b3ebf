"""Entry points -> instances. The only door by which collectors, models, policies, backends and notifiers come in.

A plug-in is a class. If it has `from_settings(section, where)` it is built from its own opaque section of the
configuration, else without arguments (then its section must be empty).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from aiops.errors import ConfigError, UserError

GROUPS = ("collectors", "forecasters", "diagnosers", "policies", "backends", "notifiers")


def names(group: str) -> tuple[str, ...]:
    """Registered names in a group, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=f"aiops.{group}")}))


def load(group: str, name: str, section: Mapping[str, Any] | None = None, where: str = "configuration") -> Any:
    """Instance of the plug-in `name`, built from its `section` found at `where`.

    Raises ConfigError naming the key where the name is unknown, the plug-in does not load, or its section is wrong.
    """
    key = f"{group}.{name}"
    point = next(iter(entry_points(group=f"aiops.{group}", name=name)), None)
    if point is None:
        raise ConfigError(where, key, f"expected one of: {', '.join(names(group)) or '(none installed)'}")
    try:
        plugin = point.load()
        if hasattr(plugin, "from_settings"):
            return plugin.from_settings(section or {}, where)
        if section:
            raise ConfigError(where, key, f"takes no settings, found {', '.join(sorted(section))}")
        return plugin()
    except UserError:
        raise
    except Exception as error:  # a third party's import or constructor may fail in any way
        raise ConfigError(where, key, f"plug-in {point.value} does not load: {type(error).__name__}: {error}") from error

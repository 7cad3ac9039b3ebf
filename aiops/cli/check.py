"""`aiops check-config`: everything that `aiops run` would refuse, without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops import plugins
from aiops.errors import ConfigError
from aiops.settings import Settings, read

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")]


def check_config(config: Config = None) -> None:
    """Read a configuration and build every plug-in that it names; print what would run."""
    settings = read(config)
    for line in describe(settings, str(config or "defaults")):
        typer.echo(line)


def describe(settings: Settings, where: str) -> list[str]:
    """Lines that say what would run. Raises ConfigError for the first thing that is wrong."""
    lines = [f"cluster {settings.cluster}, data in {settings.data_dir}"]
    for group, sections in sections_of(settings).items():
        for name, section in sections.items():
            plugins.load(group, name, section, where)
            mode = f" ({settings.policies[name].mode.value})" if group == "policies" else ""
            lines.append(f"{group.removesuffix('s')} {name}{mode}: ok")
    if settings.route and settings.route.receiver not in settings.receivers:
        raise ConfigError(where, "route.receiver", f"expected one of: {', '.join(settings.receivers) or '(no receivers)'}")
    return lines


def sections_of(settings: Settings) -> dict[str, dict[str, dict[str, object]]]:
    """Plug-in group -> name -> its own section, without what belongs to the daemon (a policy's mode)."""
    return {
        "backends": {name: section or {} for name, section in settings.backend.items()},
        "collectors": {name: section or {} for name, section in settings.collectors.items()},
        "policies": {name: policy.model_extra or {} for name, policy in settings.policies.items()},
        "notifiers": {kind: section for receiver in settings.receivers.values() for kind, section in receiver.items()},
    }

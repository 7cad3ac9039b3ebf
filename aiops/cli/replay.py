"""`aiops replay` and `aiops explain`: decide again on what was recorded; any difference is an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from aiops import plugins
from aiops import replay as again
from aiops.action import Admission
from aiops.errors import UserError
from aiops.ports import Policy, Store
from aiops.settings import read

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the daemon keeps its data.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")]


def replay(
    since: Annotated[str | None, typer.Option("--from", help="First cycle to replay: ISO 8601 or Unix seconds.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last cycle to replay.")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Decide again on every recorded cycle; exit status 1 if any differs from what was recorded."""
    first, last = _time("--from", since, 0.0), _time("--to", until, 1e12)
    if first > last:
        raise UserError(f"--from {since} is after --to {until}")
    store = _open(config, data_dir)
    ids = store.cycles(first, last)
    differing = 0
    for id in track(ids, "replaying", console=Console(stderr=True), transient=True):
        result = again.replay_cycle(store, id, build)
        if not result.equal:
            differing += 1
            typer.echo(f"{id}: {again.first_difference(result.recorded, result.fresh)}")
    typer.echo(f"{len(ids)} cycles replayed, {len(ids) - differing} equal, {differing} different")
    return 1 if differing else 0


def explain(
    decision: Annotated[str, typer.Argument(help="Id of a decision, as the ledger, API and alerts show it.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Say why a decision was taken or refused, rebuilt from its recorded inputs."""
    store = _open(config, data_dir)
    try:
        admission, cycle = store.admission(decision)
    except KeyError:
        raise UserError(f"no decision {decision!r} is recorded here") from None
    result = again.replay_cycle(store, cycle, build)
    for line in lines(admission, result):
        typer.echo(line)
    return 0 if result.equal else 1


def lines(admission: Admission, result: again.Replayed) -> list[str]:
    """A decision in words: what, why, on what evidence, admitted or refused, and whether deciding again agrees."""
    decision = admission.decision
    said = f"refused: {admission.denied.value} {admission.detail}".rstrip() if admission.denied else "permitted"
    out = [
        f"{admission.id}  {datetime.fromtimestamp(admission.at, UTC).isoformat(timespec='seconds')}  cycle {result.id}",
        f"  policy    {decision.policy} ({admission.mode.value})",
        f"  action    {decision.action}",
        f"  because   {decision.reason}",
        *(f"  evidence  {fact}" for fact in decision.evidence),
        *(f"  rejected  {other}" for other in decision.rejected),
        f"  expected  {decision.expect or '-'} within {decision.within_s:g} s",
        f"  admission {said}",
        f"  replay    {'equal, byte for byte' if result.equal else 'DIFFERS'}",
    ]
    return out if result.equal else [*out, again.first_difference(result.recorded, result.fresh)]


def build(name: str, section: Mapping[str, Any]) -> Policy:
    """A policy from the settings that were recorded with the cycle."""
    policy: Policy = plugins.load("policies", name, section, "recorded cycle")
    return policy


def _open(config: Path | None, data_dir: Path | None) -> Store:
    from aiops.wiring import existing_store

    return existing_store(read(config, {"data_dir": data_dir}))


def _time(flag: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        moment = _unix(text)
    except (ValueError, OverflowError):
        raise UserError(f"{flag}: expected ISO 8601 or Unix seconds, found {text!r}") from None
    if not math.isfinite(moment):
        raise UserError(f"{flag}: expected a moment, found {text!r}")
    return moment


def _unix(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""`aiops top`: the fleet on a terminal, read from a running daemon's REST interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

PAGES = ("cluster", "nodes", "services", "jobs", "findings")


def top(
    url: Annotated[str, typer.Option("--url", envvar="AIOPS_URL", help="A running daemon.")] = "http://127.0.0.1:8080",
    token: Annotated[str | None, typer.Option("--token", envvar="AIOPS_TOKEN", help="Bearer token.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (implies --once).")] = False,
    every: Annotated[float, typer.Option("--every", min=1.0, help="Seconds between looks.")] = 5.0,
) -> None:
    """Show nodes, services, jobs and findings, live until Ctrl-C."""
    import threading

    from rich.console import Console
    from rich.live import Live

    if as_json:
        typer.echo(json.dumps(look(url, token), indent=1))
        return
    console = Console(markup=False, emoji=False)  # a name may hold [brackets]
    if once or not console.is_terminal:
        console.print(render(look(url, token)))
        return
    pause = threading.Event()
    with Live(render(look(url, token)), console=console, screen=True) as live:
        while not pause.wait(every):
            live.update(render(look(url, token)))


def look(url: str, token: str | None) -> dict[str, Any]:
    """Everything shown, by page name. UserError where the daemon cannot be asked."""
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=10.0) as client:
            for page in PAGES:
                answer = client.get(f"/api/v1/{page}")
                answer.raise_for_status()
                found[page] = answer.json()
    except httpx.HTTPStatusError as error:
        raise UserError(f"{url}: {error.response.status_code} for {error.request.url.path}") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UserError(f"{url}: expected a running aiops daemon: {error}") from None
    return found


def render(found: dict[str, Any]) -> RenderableType:
    """Tables of what there is; a kind without rows is left out."""
    from rich.console import Group
    from rich.table import Table

    def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table | None:
        made = Table(title=title, title_justify="left", expand=True)
        for column in columns:
            made.add_column(column)
        for row in rows:
            made.add_row(*("N/A" if value is None else str(value) for value in row))
        return made if rows else None

    nodes = [(n["name"], n["pool"], n["state"], len(n["gpus"]), n["reason"]) for n in found["nodes"]["items"]]
    services = [
        (s["name"], f"{s['ready']}/{s['replicas']}", f"{s['min_replicas']}-{s['max_replicas']}", s["target"])
        for s in (item["service"] for item in found["services"]["items"])
    ]
    jobs = [(j["id"], j["queue"], j["state"], j["gpus"], ",".join(j["nodes"])) for j in found["jobs"]["items"]]
    findings = [(f["cause"], f["subject"], f"{f['confidence']:.2f}", f["summary"]) for f in found["findings"]["items"]]
    tables = (
        table("nodes", ("node", "pool", "state", "gpus", "reason"), nodes),
        table("services", ("service", "ready", "min-max", "target"), services),
        table("jobs", ("job", "queue", "state", "gpus", "nodes"), jobs),
        table("findings", ("cause", "subject", "confidence", "what"), findings),
    )
    return Group(*(t for t in tables if t is not None))

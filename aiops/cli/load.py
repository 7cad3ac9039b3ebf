"""`aiops import`: give a fresh store the history that it could not have watched, so that forecasts need not wait for days."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.errors import InputError
from aiops.settings import read

AT_ONCE = 100  # moments in one durable write: a disk's flush takes longer than writing them


def load(
    series: Annotated[Path, typer.Argument(help="Long table time,series,value (.csv, .csv.gz, .parquet).")],
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the daemon keeps its data.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")] = None,
) -> None:
    """Import samples into the store, oldest first; `series` holds names such as `metric{label="value"}`."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from aiops.files import Kind, read_table
    from aiops.model import Batch, SeriesKey
    from aiops.store.opening import open_store

    table, dropped = read_table(series, {"time": Kind.TIME, "series": Kind.TEXT, "value": Kind.NUMBER}).distinct(
        "time", "series"
    )
    keys = {}
    for name in np.unique(table["series"]):
        try:
            keys[name] = SeriesKey.parse(str(name))
        except ValueError as error:
            raise InputError(str(series), 0, str(error)) from None
    store = open_store(None, read(config, {"data_dir": data_dir}))
    times, starts = np.unique(table["time"], return_index=True)
    accepted = 0
    moments = list(zip(times, np.split(np.arange(len(table)), starts[1:]), strict=True))
    portions = [moments[first : first + AT_ONCE] for first in range(0, len(moments), AT_ONCE)]
    for portion in track(portions, "importing", console=Console(stderr=True), transient=True):
        batches = []
        for at, rows in portion:
            pairs = zip((keys[name] for name in table["series"][rows]), table["value"][rows].tolist(), strict=True)
            batches.append(Batch.of(float(at), pairs))
        accepted += store.append(*batches)
    store.close()
    typer.echo(f"{len(table)} samples of {len(keys)} series read, {accepted} kept, {dropped} repeated in the file")

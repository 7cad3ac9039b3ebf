"""Tables in files: long CSV, `.csv.gz` and Parquet in, one clear line when something is wrong, whole files out.

Every offline command reads through `read_table` and writes through `write_atomic`. The fast reader (Arrow) takes the
whole file or fails; only then is the file walked row by row to name the line. Knows nothing of what the columns mean.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.errors import InputError, UserError
from aiops.model import Floats

MISSING = ("", "NaN", "nan", "NAN", "NA", "N/A", "null", "NULL", "None", "#N/A")
"""Texts that mean 'no value' in a number column."""

LATEST = 253_402_300_800.0
"""Year 10000 in Unix seconds: anything above is milliseconds or nanoseconds by mistake."""

EARLIEST = -62_135_596_800.0
"""Year 1 in Unix seconds: a calendar knows no time before."""


class Kind(StrEnum):
    """What a column must hold."""

    TIME = "time"
    NUMBER = "number"
    TEXT = "text"

    @property
    def expected(self) -> str:
        """How to say so to a person."""
        wants = {Kind.TIME: "an ISO 8601 time or Unix seconds", Kind.NUMBER: "a finite number or nothing", Kind.TEXT: "text"}
        return wants[self]


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of equal length: TIME and NUMBER are (n,) float64 (NaN is missing), TEXT are (n,) object arrays of str."""

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def take(self, rows: NDArray[Any]) -> Table:
        """The rows selected by an index or mask, in that order."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    def distinct(self, *keys: str) -> tuple[Table, int]:
        """Sorted by `keys`, with one row per distinct key: the last one in the file wins. Also how many were dropped."""
        codes = [np.unique(self.columns[key], return_inverse=True)[1] for key in keys]
        order = np.lexsort(codes[::-1])
        last = np.zeros(len(order), dtype=bool)
        for code in codes:
            ranked = code[order]
            last[:-1] |= ranked[1:] != ranked[:-1]
        last[-1:] = True
        return self.take(order[last]), int(len(order) - last.sum())


def read_table(path: Path, columns: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None) -> Table:
    """Read the named columns of a `.csv`, `.csv.gz` or `.parquet` file; other columns are ignored.

    Rows keep the file's order. `optional` columns are left out where the file has none. Raises InputError naming the line
    and what was expected: unreadable file, missing column, ragged row, bad time, a value that is not a finite number.
    """
    wanted = {**columns, **(optional or {})}
    try:
        raw = _read_parquet(path, wanted) if path.suffix == ".parquet" else _read_csv(path, wanted)
        missing = [name for name in columns if name not in raw]
        if missing:
            raise ValueError(f"{','.join(missing)} is missing")
        return Table({name: _convert(raw[name], wanted[name]) for name in wanted if name in raw})
    except OSError as error:
        raise InputError(str(path), 0, f"expected a readable file: {error.strerror or error}") from None
    except ValueError as error:  # Arrow's errors and ours: slow, exact diagnosis only now
        if path.suffix != ".parquet":
            _diagnose(path, columns, wanted)
        raise InputError(str(path), 0, f"expected a table of {','.join(columns)}: {str(error).splitlines()[0]}") from None


def _read_csv(path: Path, wanted: Mapping[str, Kind]) -> dict[str, Any]:
    from pyarrow import csv as arrow_csv
    from pyarrow import dictionary, float64, int32, string

    coded = dictionary(int32(), string())  # time stamps and names repeat: parse each distinct text once
    types = {name: float64() if kind is Kind.NUMBER else coded for name, kind in wanted.items()}
    convert = arrow_csv.ConvertOptions(column_types=types, null_values=list(MISSING), strings_can_be_null=False)
    read = arrow_csv.ReadOptions(use_threads=False)
    table = arrow_csv.read_csv(
        path, read_options=read, parse_options=arrow_csv.ParseOptions(newlines_in_values=True), convert_options=convert
    )
    return {name: table.column(name) for name in wanted if table.column_names.count(name) == 1}


def _read_parquet(path: Path, wanted: Mapping[str, Kind]) -> dict[str, Any]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    names = [name for name in wanted if name in file.schema_arrow.names]
    table = file.read(columns=names)
    return {name: table.column(name) for name in names}


def _convert(column: Any, kind: Kind) -> NDArray[Any]:
    """One Arrow column as numpy. ValueError where it does not hold what `kind` asks."""
    from pyarrow import types

    series = column.to_pandas()
    if types.is_dictionary(column.type):
        distinct, codes = np.asarray(series.cat.categories.astype(object)), np.asarray(series.cat.codes)
        if (codes < 0).any():
            raise ValueError("a missing name or time")
        values: NDArray[Any] = parse_times(distinct) if kind is Kind.TIME else distinct
        return np.asarray(values[codes])
    if kind is not Kind.NUMBER and series.isna().any():
        raise ValueError("a missing name or time")
    if kind is Kind.TEXT:
        return np.asarray(series.astype(str).astype(object))
    if kind is Kind.TIME and types.is_timestamp(column.type):
        return _in_calendar(np.asarray(series.to_numpy("datetime64[us]").astype(np.int64) / 1e6), series)
    if kind is Kind.TIME:
        return parse_times(np.asarray(series.astype(str).astype(object)))
    numbers = np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if np.isinf(numbers).any():
        raise ValueError("an infinite value")
    return numbers


def parse_times(texts: Sequence[str] | NDArray[Any]) -> Floats:
    """Unix seconds of ISO 8601 texts (UTC assumed when no zone) or of Unix seconds. ValueError names the first bad one."""
    import pandas

    numbers = np.array([_number(text) for text in texts], dtype=np.float64)
    iso = np.flatnonzero(np.isnan(numbers))
    if len(iso):
        found = np.array([str(texts[int(i)]) for i in iso])
        stamps = pandas.to_datetime(found, utc=True, format="ISO8601", errors="coerce")
        numbers[iso] = np.where(stamps.isna(), np.nan, stamps.as_unit("ns").astype(np.int64) / 1e9)
    return _in_calendar(numbers, texts)


def _in_calendar(numbers: Floats, found: Any) -> Floats:
    bad = np.flatnonzero(~((numbers >= EARLIEST) & (numbers < LATEST)))
    if len(bad):
        raise ValueError(f"expected {Kind.TIME.expected}, found {str(found[int(bad[0])])[:60]!r}")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# -- which line is wrong -----------------------------------------------------------------------------------------------


def _diagnose(path: Path, columns: Mapping[str, Kind], wanted: Mapping[str, Kind]) -> None:
    """Walk the file row by row and raise InputError at the first line that is wrong; return where none is found."""
    line = 0
    try:
        for line, row, header in _rows(path):
            if row is header:
                _check_header(path, header, columns)
            elif len(row) != len(header):
                raise InputError(str(path), line, f"expected {len(header)} fields as in the header, found {len(row)}")
            else:
                _check_row(path, line, dict(zip(header, row, strict=True)), wanted)
    except UnicodeDecodeError:
        raise InputError(str(path), line + 1, "expected UTF-8 text") from None
    except csv.Error as error:
        raise InputError(str(path), line + 1, f"expected CSV: {error}") from None
    except (EOFError, gzip.BadGzipFile, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise InputError(str(path), 0, f"expected a whole gzip file: {error}") from None
    if not line:
        raise InputError(str(path), 1, f"expected a header with {','.join(columns)}, found an empty file")


def _rows(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header: list[str] | None = None
        for row in reader:
            header = row if header is None else header
            if row:
                yield reader.line_num, row, header


def _check_header(path: Path, header: list[str], columns: Mapping[str, Kind]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(
            str(path), 1, f"expected a header with {','.join(columns)}, found {','.join(header)[:80]}: no {','.join(missing)}"
        )
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise InputError(str(path), 1, f"expected each column once, found {twice[0]} {header.count(twice[0])} times")


def _check_row(path: Path, line: int, row: Mapping[str, str], wanted: Mapping[str, Kind]) -> None:
    for name, kind in wanted.items():
        text = row.get(name, "")
        if kind is Kind.NUMBER and text not in MISSING and not math.isfinite(_number(text)):
            raise InputError(str(path), line, f"{name}: expected {kind.expected}, found {text[:60]!r}")
        if kind is Kind.TIME and name in row:
            try:
                parse_times([text])
            except ValueError as error:
                raise InputError(str(path), line, f"{name}: {error}") from None


# -- writing -----------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` so that `path` is either the old file or the whole new one; text is UTF-8, `.gz` is compressed.

    Raises UserError where the place cannot be written. A device or pipe is written straight.
    """
    content = data.encode() if isinstance(data, str) else data
    content = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise UserError(f"{path}: expected a place that can be written: {error.strerror or error}") from None


def csv_text(header: Sequence[str], rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> str:
    """CSV with Unix line ends; floats in their shortest exact form, NaN as empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in rows)
    return out.getvalue()

"""Tables from files: what is accepted, and the one line for what is not."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aiops.errors import InputError, UserError
from aiops.files import Kind, csv_text, read_table, write_atomic

LONG = {"time": Kind.TIME, "series": Kind.TEXT, "value": Kind.NUMBER}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_iso_and_unix_times_missing_values_and_other_columns(tmp_path):
    text = "value,time,series,note\n1.5,2024-01-01T00:00:00Z,a,x\n,2024-01-01 01:00:00+01:00,a,\nNaN,1704067200.5,NA,\n"
    table = read_table(write(tmp_path / "a.csv", text), LONG)
    assert table["time"].tolist() == [1704067200.0, 1704067200.0, 1704067200.5]
    assert table["series"].tolist() == ["a", "a", "NA"]
    np.testing.assert_array_equal(table["value"], [1.5, np.nan, np.nan])


def test_gzip_and_parquet_give_the_same_table(tmp_path):
    import pandas

    text = "time,series,value\n2024-01-01T00:00:00,a,1\n2024-01-01T00:05:00,b,\n"
    plain = read_table(write(tmp_path / "a.csv", text), LONG)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    frame = pandas.read_csv(tmp_path / "a.csv", parse_dates=["time"])
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv.gz", "a.parquet"):
        other = read_table(tmp_path / name, LONG)
        for column in LONG:
            np.testing.assert_array_equal(plain[column], other[column])


def test_the_last_of_equal_keys_wins_and_is_counted(tmp_path):
    text = "time,series,value\n600,b,5\n0,a,1\n300,a,2\n0,a,3\n"
    table, dropped = read_table(write(tmp_path / "a.csv", text), LONG).distinct("series", "time")
    assert dropped == 1
    assert list(zip(table["series"], table["time"], table["value"], strict=True)) == [
        ("a", 0.0, 3.0),
        ("a", 300.0, 2.0),
        ("b", 600.0, 5.0),
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty file"),
        ("time,series\n0,a\n", 1, "no value"),
        ("time,series,value\n0,a,1\n5,a,x\n", 3, "value: expected a finite number or nothing, found 'x'"),
        ("time,series,value\n0,a,inf\n", 2, "finite"),
        ("time,series,value\n0,a,1e999\n", 2, "finite"),
        ("time,series,value\n0,a,1\nyesterday,a,1\n", 3, "time: expected an ISO 8601 time"),
        ("time,series,value\n,a,1\n", 2, "time"),
        ("time,series,value\n1704067200000,a,1\n", 2, "Unix seconds"),  # milliseconds
        ("time,series,value\n0,a,1\n5,a\n", 3, "expected 3 fields"),  # torn last row
        ("time,series,value\n0,a,1,9\n", 2, "expected 3 fields"),
        ("time,value,series,value\n0,1,a,1\n", 1, "each column once"),
    ],
)
def test_bad_input_names_file_line_and_expectation(tmp_path, text, line, words):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(InputError) as caught:
        read_table(path, LONG)
    assert caught.value.line == line
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.csv", "no.csv.gz", "no.parquet"])
def test_a_missing_file_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match="readable file"):
        read_table(tmp_path / name, LONG)


@pytest.mark.parametrize("name", ["torn.csv.gz", "text.parquet", "binary.csv"])
def test_broken_containers_are_one_line(tmp_path, name):
    torn = gzip.compress(b"time,series,value\n" + b"0,a,1\n" * 5000)[:-40]
    (tmp_path / name).write_bytes(
        {"torn.csv.gz": torn, "text.parquet": b"hello", "binary.csv": b"time,series,value\n\xff\xfe,a,1\n"}[name]
    )
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / name, LONG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("time", "name", "words"),
    [
        (None, "a", "a missing name or time"),
        (datetime(2025, 1, 1, tzinfo=UTC), None, "a missing name or time"),  # not a series that is called None
        (datetime(2025, 1, 1, tzinfo=UTC), "a", ""),
        (datetime(9999, 12, 31, tzinfo=UTC), "a", ""),  # nanoseconds would make it 1816
        (-(10**14), "a", "expected an ISO 8601 time or Unix seconds, found"),
    ],
)
def test_what_parquet_holds_for_a_time_is_that_time_or_refused(tmp_path, time, name, words):
    columns = [pa.array([time], pa.timestamp("ms")), pa.array([name], pa.string()), pa.array([1.0])]
    parquet.write_table(pa.table(columns, names=list(LONG)), tmp_path / "a.parquet")
    if words:
        with pytest.raises(InputError, match=words):
            read_table(tmp_path / "a.parquet", LONG)
    else:
        assert read_table(tmp_path / "a.parquet", LONG)["time"].tolist() == [time.timestamp()]


def test_header_only_is_an_empty_table(tmp_path):
    assert len(read_table(write(tmp_path / "a.csv", "time,series,value\n"), LONG)) == 0


def test_write_atomic_leaves_no_part_behind(tmp_path):
    write_atomic(tmp_path / "out.csv", "a\n")
    write_atomic(tmp_path / "out.csv.gz", "b\n")
    assert (tmp_path / "out.csv").read_text() == "a\n"
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == b"b\n"
    with pytest.raises(UserError):
        write_atomic(tmp_path / "nowhere" / "out.csv", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.csv.gz"]


def test_csv_text_is_exact_and_quotes():
    assert csv_text(["a", "b"], [[0.1, 'x,"y"'], [float("nan"), "z"]]) == 'a,b\n0.1,"x,""y"""\n,z\n'

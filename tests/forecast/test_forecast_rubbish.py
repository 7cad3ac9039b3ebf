"""`aiops forecast` and `aiops backtest` on rubbish: each either answers, or says in one line what it expected."""

import signal

import numpy as np
import pytest

from aiops.cli.backtest import backtest
from aiops.cli.forecast import forecast
from aiops.cli.pictures import draw
from aiops.errors import UserError
from aiops.model import Forecast, Series, SeriesKey

START = 1_760_000_000


def file(path, rows):
    path.write_text("time,series,value\n" + "".join(f"{t},{name},{value}\n" for t, name, value in rows))
    return path


def a_series(name="a", start=START, step=300, value=lambda i: 100 + i % 7):
    return [(start + step * i, name, value(i)) for i in range(60)]


@pytest.mark.parametrize("name", ["[/red]x", "[bold]x", "a:x:b"])
def test_a_name_is_shown_as_it_is_whatever_brackets_it_holds(tmp_path, capsys, name):
    forecast(file(tmp_path / "in.csv", a_series(name)), model="last_value", out=tmp_path / "o.csv")
    assert name in capsys.readouterr().out


def test_a_name_is_drawn_as_it_is_and_not_as_a_formula(tmp_path):
    rows = a_series("a$x_{$ y^")
    forecast(file(tmp_path / "in.csv", rows), model="last_value", out=tmp_path / "o.csv", plot=tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_drawn_although_its_axis_is_longer_than_any_number(tmp_path):
    values = np.array([-1.7e308, 1.7e308])
    series = Series(key=SeriesKey("a"), times=np.array([0.0, 300.0]), values=values)
    made = Forecast(
        target="a", made_at=300.0, times=np.array([600.0]), quantiles=np.array([0.05, 0.95]), values=values[:, None], model="m"
    )
    draw(tmp_path / "p.png", [series], [made])
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (-1e11, "in.csv:2: time: expected an ISO 8601 time or Unix seconds, found '-1"),  # 1200 BC
        (253_402_300_799 - 60 * 300, "--horizon: expected to end before the year 10000"),
    ],
)
def test_what_no_calendar_holds_is_refused(tmp_path, start, words):
    with pytest.raises(UserError, match=words):
        forecast(file(tmp_path / "in.csv", a_series(start=start)), model="last_value", horizon="1d")


def test_values_at_the_end_of_the_scale_are_refused_in_one_line(tmp_path):
    # of two of them neither the difference nor the square is a number: the answer would be infinite
    rows = a_series() + a_series("b", value=lambda i: 1.7e308 * (-1) ** i)
    with pytest.raises(UserError, match=r"in.csv: expected values up to 1e\+150 in size, found 1.7e\+308 in series b"):
        forecast(file(tmp_path / "in.csv", rows))


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        (a_series(), {"horizons": "15m,1000d", "step": "1s"}, "--horizons: expected at most 10000 steps of 1 s, found"),
        (a_series(step=1e-6), {}, "--horizons: expected at most 10000 steps of 0.001 s"),  # microseconds: no unit
        (a_series()[:1], {}, "in.csv: expected series of more than one point"),
    ],
)
def test_a_backtest_refuses_what_it_could_not_finish(tmp_path, rows, flags, words):
    with pytest.raises(UserError, match=words):
        backtest(file(tmp_path / "in.csv", rows), models="last_value", origins=2, **flags)


def test_a_series_that_begins_after_an_origin_is_named_and_not_dropped_silently(tmp_path, capsys):
    rows = a_series() + a_series("b", start=START + 30 * 300)
    as_of = [str(START + 20 * 300), str(START + 40 * 300)]
    forecast(file(tmp_path / "in.csv", rows), model="last_value", as_of=as_of, out=tmp_path / "o.csv")
    assert "1 series have no value by 2025-10-09T10:33:20.000000Z and get no row from there: b" in capsys.readouterr().err


def test_every_quantile_has_a_column_of_its_own(tmp_path):
    made = file(tmp_path / "in.csv", a_series()), tmp_path / "o.csv"
    forecast(made[0], model="last_value", quantiles="0.5,0.9,0.9999999,0.99999999", out=made[1])
    assert made[1].read_text().startswith("series,origin,time,q0.5,q0.9,q0.9999999,q0.99999999,model,skill\n")


def test_where_nobody_watches_there_is_no_progress_and_no_empty_line(tmp_path, capsys):
    forecast(file(tmp_path / "in.csv", a_series()), model="last_value", out=tmp_path / "o.csv")
    assert capsys.readouterr().err == ""


def test_control_c_still_ends_the_command(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    forecast(file(tmp_path / "in.csv", a_series()), model="last_value", out=tmp_path / "o.csv")
    backtest(file(tmp_path / "in.csv", a_series()), models="last_value", horizons="5m", origins=2)
    assert signal.getsignal(signal.SIGINT) is before

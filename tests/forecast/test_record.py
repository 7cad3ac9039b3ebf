"""The record that forecasts are judged by: how it begins, grows, and goes on when series come and go."""

from dataclasses import replace

import numpy as np
import pytest

from aiops.forecast import record
from aiops.forecast.experts import BOOST, LAST
from aiops.forecast.live import Learnt, say
from aiops.forecast.record import Said
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar
from aiops.forecast.voices import Voices, matrix
from aiops.model import SeriesKey
from aiops.ports import Grid

STEP, DAY = 300.0, 86400.0
END = 20_000 * DAY
ASK = Ask(step_s=STEP, steps=3, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))
MUTE = Voices(ASK, Calendar(), None, {})
"""No global model and no Prophet: the simple rules speak, which is enough to tell whose word is kept."""


def wave(name: str, days: float = 3.0, level: float = 100.0, end: float = END) -> Grid:
    n = round(days * DAY / STEP)
    times = end - STEP * np.arange(n - 1, -1, -1)
    values = level + 0.3 * level * np.sin(2 * np.pi * times / DAY) + np.random.default_rng(len(name)).normal(0, level / 20, n)
    return Grid(key=SeriesKey.of("m", service=name), start=float(times[0]), step_s=STEP, values=values)


def said_of(*panel: Grid) -> Said:
    return record.first(panel, matrix(panel), MUTE)


def test_a_fresh_start_has_a_record_of_a_day_and_a_half_every_ten_minutes():
    said = said_of(wave("a", days=6))
    assert len(said.times) == 216
    assert said.times[0] == END - record.HELD_OUT_S
    assert np.isfinite(said.bands[0, :, :, LAST]).all()
    assert np.isnan(said.bands[0, :, :, BOOST]).all()


@pytest.mark.parametrize(
    "series,gap_s", [(1, 600), (83, 600), (250, 1800), (500, 3600)], ids=["one", "few", "half a group", "a whole group"]
)
def test_a_record_grows_as_often_as_its_bands_can_be_kept(series, gap_s):
    # Given a record of so many series that was last added to at END
    keys = tuple(SeriesKey.of("m", service=str(i)) for i in range(series))
    said = Said(keys, np.array([END]), np.zeros((series, 1, 1, 1, 4), dtype=np.float32))
    bands = np.ones((series, 1, 1, 4))
    # Then it is added to only after its own while, and what is four days old goes
    assert said.grown(END + gap_s - STEP, bands) is said
    grown = said.grown(END + gap_s, bands)
    assert grown.times.tolist() == [END, END + gap_s]
    assert grown.bands[:, 1].min() == 1
    assert grown.grown(END + record.KEPT_S + 60, bands).times.tolist() == [END + gap_s, END + record.KEPT_S + 60]


def test_who_stays_keeps_its_record_when_others_come_and_go():
    # Given a record of three series in which it is written what nobody would say now
    old = wave("a"), wave("b"), wave("gone")
    said = said_of(*old)
    said = replace(said, bands=said.bands + np.float32(1000))
    # When one has left and another has come, in another order
    panel = wave("b"), wave("new"), wave("a")
    carried = said.carried(panel, matrix(panel), (MUTE, END))
    # Then each has its own
    assert carried.keys == tuple(grid.key for grid in panel)
    np.testing.assert_array_equal(carried.bands[0], said.bands[1])
    np.testing.assert_array_equal(carried.bands[2], said.bands[0])
    np.testing.assert_array_equal(carried.bands[1], said_of(panel[1]).bands[0])


def test_a_newcomer_is_not_judged_at_moments_that_the_earlier_model_has_learnt_from():
    said = said_of(wave("a"), wave("b"))
    panel = wave("a"), wave("b"), wave("new")
    # Given an earlier model learnt twelve hours later than the record began: half of its first day is behind that one's back
    carried = said.carried(panel, matrix(panel), (MUTE, END + 12 * 3600))
    known = np.isfinite(carried.bands[2, :, 0, LAST, 0])
    np.testing.assert_array_equal(known, said.times > END + 12 * 3600 - record.HELD_OUT_S)
    assert 0 < known.sum() < len(known)


def test_a_panel_that_is_mostly_new_begins_anew():
    said = said_of(wave("a"), wave("b"))
    assert said.mostly_of((wave("a"), wave("new")), ASK)
    assert not said.mostly_of((wave("a"), wave("new"), wave("other")), ASK)
    assert not said.mostly_of((wave("a"), wave("b")), replace(ASK, steps=6))


def test_a_service_that_comes_does_not_cost_another_its_record():
    # Given two services whose record is a day older than anything a fresh start would have
    learnt = Learnt(END, 2, None, None)
    panel = wave("a", days=8), wave("b", days=8)
    old = record.first([wave("a", days=7, end=END - DAY), wave("b", days=7, end=END - DAY)], matrix(panel)[:, :-288], MUTE)
    # When a third one comes
    judged = say((*panel, wave("c", days=8)), ASK, Calendar(), learnt, old)
    # Then their old moments are still there, and it has a forecast, too
    assert judged.said.times[0] == old.times[0]
    np.testing.assert_array_equal(judged.said.bands[:2, :-1], old.bands)
    assert [one.target for one in judged.forecasts] == [str(SeriesKey.of("m", service=name)) for name in "abc"]
    assert all(np.isfinite(one.values).all() for one in judged.forecasts)


def test_a_series_that_has_just_begun_is_served_the_last_value_at_every_refresh():
    # Given a service that begins now: at first no moment of it can be judged, then one, then a few
    learnt, said = Learnt(END, 1, None, None), None
    for points in range(1, 40):
        panel = (wave("a", days=points * STEP / DAY, end=END + points * STEP),)
        judged = say(panel, ASK, Calendar(), learnt, said)
        said = judged.said
        # Then there is a forecast each time, refused until it has a record
        (made,) = judged.forecasts
        assert np.isfinite(made.values).all()
        assert made.refused is not None or made.skill is not None
    assert len(said.times) > 2


@pytest.mark.parametrize("ahead_s", [600.0, 7200.0, 30 * DAY])
def test_a_clock_that_went_back_costs_only_what_was_said_in_its_future(ahead_s):
    # Given a record that grew while the clock was wrong, by minutes or by a month
    learnt, said = Learnt(END, 1, None, None), None
    for end in (END, END + ahead_s):
        said = say((wave("a", days=6, end=end),), ASK, Calendar(), learnt, said).said
    # When it is right again
    judged = say((wave("a", days=6, end=END + STEP),), ASK, Calendar(), learnt, said)
    # Then it is judged by what was said before now, and goes on
    assert judged.said.times.max() <= END + STEP
    assert len(judged.said.times) > 200
    assert judged.forecasts[0].skill is not None


def test_a_cluster_that_grows_keeps_no_more_bands_than_one_that_was_large_from_the_start():
    # Given the record of 83 cards, four days every ten minutes
    cards = [replace(wave("a", days=8), key=SeriesKey.of("m", gpu=f"{i:03d}")) for i in range(200)]
    times = END - 600.0 * np.arange(575, -1, -1)
    said = Said(tuple(card.key for card in cards[:83]), times, np.zeros((83, 576, 3, 5, 4), dtype=np.float32))
    # When the cluster grows to 200, then its record is thinned to what 200 have, evenly, the newest moment first of all
    grown = said.carried(cards[:166], matrix(cards[:166]), (MUTE, END)).carried(cards, matrix(cards), (MUTE, END))
    assert len(grown.times) * 200 < 1.5 * record.KEPT_BANDS
    assert grown.times[-1] == END
    assert np.ptp(np.diff(grown.times)) == 0
    # And one more or less does not thin it again
    assert len(grown.carried(cards[1:], matrix(cards[1:]), (MUTE, END)).times) == len(grown.times)


def test_one_missed_scrape_of_an_idle_series_does_not_make_it_a_busy_one():
    # Given a disk that idles, of which the newest point, and one an hour ago, are missing
    values = np.where(np.random.default_rng(0).random(2016) < 0.05, 1e6, 0.0)
    values[[-13, -1]] = 0.0
    missed = values.copy()
    missed[[-13, -1]] = np.nan
    told, unheard = (Grid(key=SeriesKey("io"), start=END - STEP * 2015, step_s=STEP, values=one) for one in (values, missed))
    whole, gappy = said_of(told).track([told], matrix([told]), ASK), said_of(told).track([unheard], matrix([unheard]), ASK)
    # Then it is judged by the moments at which it idled, as it would be with them
    np.testing.assert_array_equal(whole.alike, gappy.alike)
    # And answered as an idle one: by one expert's word, not by a mean
    learnt = Learnt(END, 1, None, None)
    models = [say([one], ASK, Calendar(), learnt, None).forecasts[0].model for one in (told, unheard)]
    assert models[0] == models[1]

"""The collector of job reports reads strangers' files: it takes what is ours and is harmed by nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.errors import ConfigError, NoData, Temporary
from aiops.jobs.identity import Identity
from aiops.jobs.outlet import exposition
from aiops.jobs.recorder import Totals
from aiops.model import SeriesKey
from collectors.jobs import JobsCollector, parse

GOOD = 'job_steps_total{job_id="j",run_id="r",rank="0"} 7\n'


def write(folder: Path, text: str, name: str = "j-0.prom", at: float = 1000.0) -> Path:
    path = folder / name
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def test_newest_state_of_every_rank(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace('rank="0"', 'rank="1"'), "j-1.prom")
    batch = JobsCollector(tmp_path).collect(1010.0)
    assert batch.time == 1010.0
    assert [key.label("rank") for key in batch.keys] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('gpu_power_watts{job_id="j"} 1', "a job does not speak for the machine"),
        ('job_steps_total{job_id="j",tenant="x"} 1', "a label that is not ours makes a series that is not ours"),
        ('job_steps_total{rank="0"} 1', "no job"),
        ('job_steps_total{job_id="j"} NaN', "missing is left out, never stored"),
        ('job_steps_total{job_id="j"} 1e999', "infinite"),
        ('job_steps_total{job_id="j"} ', "cut off"),
        ("\x00\xff", "noise"),
    ],
)
def test_lines_that_are_not_ours(line: str, why: str) -> None:
    assert list(parse(line + "\n" + GOOD)) == list(parse(GOOD)), why


def test_a_file_of_a_job_that_ended_is_stale(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert len(JobsCollector(tmp_path).collect(1061.0).keys) == 0


def test_links_and_pipes_are_not_opened(tmp_path: Path) -> None:
    secret = write(tmp_path, GOOD, "secret")
    (tmp_path / "link.prom").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.prom")
    assert len(JobsCollector(tmp_path).collect(1000.0).keys) == 0


def test_no_directory_is_no_data_and_a_file_in_its_place_a_fault(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        JobsCollector(tmp_path / "none").collect(1.0)
    with pytest.raises(Temporary):
        JobsCollector(write(tmp_path, "")).collect(1.0)
    with pytest.raises(Temporary, match="in use"):
        JobsCollector(socket_path=write(tmp_path, "")).collect(1.0)


@pytest.mark.parametrize("section", [{"dir": "x"}, {"directory": 7}, {"socket": ""}])
def test_wrong_settings_are_named(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"a\.yaml: collectors\.jobs\.{next(iter(section))}"):
        JobsCollector.from_settings(section, "a.yaml")


@given(st.text(), st.floats(0, 1e12))
def test_what_the_client_writes_the_collector_reads(job: str, value: float) -> None:
    """Any job name, however odd, comes back; values keep nine digits."""
    totals = Totals({}, 0, value, 0.0, None, None, {"k": value})
    read = dict(parse(exposition(Identity(job, "r", "0"), totals)))
    key = SeriesKey.of("job_step_duration_seconds_sum", job_id=job, run_id="r", rank="0")
    assert read[key] == pytest.approx(value, rel=1e-8)
    assert read[SeriesKey.of("job_knob_value", job_id=job, run_id="r", rank="0", knob="k")] == pytest.approx(value, rel=1e-8)

"""Mistyped commands and wrong environments: one line, exit status 2, never a traceback."""

import sys

import pytest

from aiops.cli.main import main


def status_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aiops", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("nonsense",), "nonsense"),
        (("run", "--bogus"), "--bogus"),
        (("run", "--port", "many"), "--port"),
        (("explain",), "decision"),
        (("db", "nonsense"), "nonsense"),
    ],
)
def test_a_mistyped_command_is_one_line_that_names_the_mistake(
    words: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(monkeypatch, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aiops: ")
    assert named in line


def test_no_command_at_all_shows_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(monkeypatch) == 2
    shown = capsys.readouterr()
    assert "check-config" in shown.out + shown.err
    assert len((shown.out + shown.err).splitlines()) > 10

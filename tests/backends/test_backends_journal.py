"""The effect journal: what it remembers over restarts, torn lines, and its own shortening."""

from pathlib import Path

import pytest

from aiops.backends.journal import Journal, effects
from aiops.errors import Unreadable
from aiops.testing.backend import ReplyLost

ROW: dict[str, object] = {"at": 1.0, "kind": "cordon", "target": "node/n0"}


def opened(path: Path, kept: int = 3, dies_at: str = "") -> Journal:
    def failpoint(point: str) -> None:
        if point == dies_at:
            raise ReplyLost(point)

    journal = Journal(path, failpoint, kept)
    journal.open()
    return journal


def done(journal: Journal, *ids: str) -> None:
    for id in ids:
        journal.write(id, "begin", ROW)
        journal.write(id, "done", ROW)


def test_it_is_shortened_to_the_newest_ids_and_says_the_same_of_them(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    journal = opened(path)
    journal.write("open", "begin", ROW)
    done(journal, "a", "b", "c", "d", "e")
    assert list(journal.begun) == ["open", "a", "b", "c", "d", "e"]
    done(journal, "f")  # the seventh of at most twice three
    assert effects(path) == ("d", "e", "f")
    assert list(journal.begun) == ["d", "e", "f"] and journal.done == {"d", "e", "f"}
    done(journal, "g")
    journal.close()
    again = opened(path)
    assert again.done == {"d", "e", "f", "g"} and effects(path) == ("d", "e", "f", "g")


def test_a_begun_effect_among_the_newest_stays_a_question(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    journal = opened(path)
    done(journal, "a", "b", "c", "d", "e")
    journal.write("open", "begin", ROW)
    done(journal, "f")
    journal.close()
    assert list(opened(path).begun) == ["e", "open", "f"] and "open" not in opened(path).done


@pytest.mark.parametrize("point", ["before_compact", "after_compact"])
def test_a_death_while_shortening_forgets_no_newer_id(tmp_path: Path, point: str) -> None:
    path = tmp_path / "effects.jsonl"
    journal = opened(path, dies_at=point)
    with pytest.raises(ReplyLost):
        done(journal, "a", "b", "c", "d", "e", "f", "g")
    journal.close()
    again = opened(path)
    assert {"e", "f", "g"} <= again.done
    done(again, "h")
    again.close()
    assert {"f", "g", "h"} <= opened(path).done
    assert len(effects(path)) == len(set(effects(path)))


def test_a_torn_last_line_is_cut_and_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    journal = opened(path)
    done(journal, "a")
    journal.close()
    path.write_bytes(path.read_bytes() + b'{"id": "b", "wh')
    torn = opened(path)
    assert list(torn.begun) == ["a"] and path.read_bytes().endswith(b"\n")
    torn.close()
    path.write_bytes(b"not json\n")
    with pytest.raises(Unreadable):
        opened(path)

"""The dashboard's files: complete in both languages, small, and within their own content security policy."""

from __future__ import annotations

import gzip
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from api_house import Client, House

from aiops.action import Deny, EntryState, Mode
from aiops.model import Cause, JobState, NodeState

STATIC = Path(str(files("aiops.api").joinpath("static")))
SCRIPTS = sorted(STATIC.glob("js/*.js"))
BUDGET_BYTES = 150 * 1024


def catalogue(language: str) -> dict[str, str]:
    return dict(json.loads((STATIC / f"i18n/{language}.json").read_text(encoding="utf-8")))


def test_both_languages_say_the_same_things() -> None:
    english, chinese = catalogue("en"), catalogue("zh-CN")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text and chinese[key]
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_text_that_a_script_asks_for_exists(script: Path) -> None:
    used = set(re.findall(r"\bt\(\"([^\"]+)\"", script.read_text(encoding="utf-8")))
    assert used <= catalogue("en").keys()


def test_every_text_of_the_page_exists() -> None:
    used = set(re.findall(r'data-t(?:-label)?="([^"]+)"', (STATIC / "index.html").read_text(encoding="utf-8")))
    assert used and used <= catalogue("en").keys()


@pytest.mark.parametrize(
    ("group", "words"),
    [("deny", Deny), ("cause", Cause), ("entry", EntryState), ("mode", Mode), ("node", NodeState), ("job", JobState)],
)
def test_every_word_of_the_contract_has_a_translation(group: str, words: type[Deny]) -> None:
    missing = [word.value for word in words if f"{group}.{word.value}" not in catalogue("zh-CN")]
    assert not missing


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page)
    for path in (STATIC / "index.html", STATIC / "app.css", *SCRIPTS):
        text = path.read_text(encoding="utf-8")
        assert "https://" not in text
        assert not re.search(r"http://(?!www\.w3\.org/)", text)
        assert "innerHTML" not in text


def test_the_page_fits_its_budget() -> None:
    sent = [path for path in STATIC.rglob("*") if path.is_file() and "zh-CN" not in path.name and "LICENSE" not in path.name]
    assert sum(len(gzip.compress(path.read_bytes())) for path in sent) <= BUDGET_BYTES


def test_files_are_served_with_their_type_tag_and_policy() -> None:
    client = Client(House())
    page, script = client.get("/"), client.get("/static/js/main.js")
    assert page.headers["content-type"].startswith("text/html")
    assert script.headers["content-type"].startswith("text/javascript")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    again = client.get("/static/js/main.js", **{"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

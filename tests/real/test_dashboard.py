"""The dashboard in a real browser: it draws, it stays live, it speaks both languages, and it reports no error."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from api_house import House, live_house, served

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="no browser (Debian packages chromium and chromium-driver)",
    ),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,1600",
]  # fmt: skip


class Browser:
    """The few WebDriver commands that the tests need."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._http = httpx.Client(base_url=driver, timeout=60)
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = f"/session/{self._post('/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"

    def _post(self, path: str, body: Any) -> Any:
        answer = self._http.post(path, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, url: str) -> None:
        self._post(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._post(f"{self._session}/execute/sync", {"script": f"return {script}", "args": []})

    def until(self, script: str, test: Callable[[Any], bool] = bool) -> Any:
        """The script's value once it passes the test; the last value in the failure."""
        end = time.monotonic() + 30
        while not test(value := self.run(script)):
            assert time.monotonic() < end, f"{script} stayed {value!r}"
            time.sleep(0.1)
        return value

    def errors(self) -> list[str]:
        log = self._post(f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._http.delete(self._session)
        self._http.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        one = Browser(f"http://127.0.0.1:{port}", tmp_path / "profile")
        yield one
        one.close()
    finally:
        driver.terminate()
        driver.wait(10)


TEXT = "document.body.innerText"
CHOOSE_CHINESE = """(() => {
    const chooser = document.querySelector('#language');
    chooser.value = 'zh-CN';
    chooser.dispatchEvent(new Event('change'));
})()"""


def test_the_page_draws_everything_without_an_error(browser: Browser) -> None:
    with served(live_house()) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelectorAll('.plot canvas').length", lambda n: n == 2)
        assert browser.run("document.querySelectorAll('.gpu').length") == 24
        assert browser.run("document.querySelectorAll('.gpu.lost').length") == 1
        assert "Storage stall" in browser.run(TEXT)
        assert browser.run("document.querySelector('img[src=x]')") is None  # a job's name is text, never markup
        assert browser.errors() == []


def test_an_empty_house_says_what_to_do_and_breaks_nothing(browser: Browser) -> None:
    with served(House()) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelectorAll('.empty').length", lambda n: n >= 6)
        text = browser.run(TEXT)
        assert "No diagnosis yet" in text
        assert "Nothing is wrong" not in text  # nobody has looked: no finding is no all-clear
        assert [one for one in browser.errors() if "503" not in one] == []  # no cycle yet: the browser logs the answer itself


def test_a_change_appears_without_a_reload(browser: Browser) -> None:
    house = live_house()
    with served(house) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelector('#banner').className", lambda name: "warn" in name)
        house.status = replace(house.status, halted=True)
        browser.until("document.querySelector('#banner').className", lambda name: "bad" in name)
        assert "Kill switch engaged" in browser.run(TEXT)


def test_a_diagnosis_that_is_old_is_no_all_clear(browser: Browser) -> None:
    house = live_house()
    house.store.found = [replace(one, at=one.at - 600.0) for one in house.store.found]
    with served(house) as url:
        browser.open(f"{url}/?lang=en")
        browser.until(TEXT, lambda text: "The last diagnosis is old" in text and "No fresh diagnosis" in text)


def test_the_language_switches_and_is_remembered(browser: Browser) -> None:
    with served(live_house()) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelectorAll('.gpu').length")
        browser.run(CHOOSE_CHINESE)
        browser.until(TEXT, lambda text: "存储阻塞" in text and "服务" in text)
        browser.open(f"{url}/")
        browser.until("document.documentElement.lang", lambda lang: lang == "zh-CN")
        browser.until(TEXT, lambda text: "存储阻塞" in text)


def test_a_decision_opens_with_its_evidence_and_its_verdict(browser: Browser) -> None:
    with served(live_house()) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelector('[data-key=\"a-0\"]') !== null")
        browser.run("document.querySelector('[data-key=\"a-0\"]').click()")
        text = browser.until("document.querySelector('#drawer[open]')?.innerText ?? ''")
        assert "aiops explain a-0" in text and "37 req/s" in text and "skill 0.31" in text


def test_the_kill_switch_asks_first_and_then_holds(browser: Browser) -> None:
    house = live_house()
    with served(house) as url:
        browser.open(f"{url}/?lang=en")
        browser.until("document.querySelector('#kill').hidden === false")
        browser.run("document.querySelector('#kill').click()")
        browser.until("document.querySelector('#ask[open]') !== null")
        assert house.killed == []
        browser.run("document.querySelector('#ask button[type=submit]').click()")
        browser.until("document.querySelector('#banner').className", lambda name: "bad" in name)
    assert house.killed == [True]
    assert house.store.given[-1].kind == "kill"

"""The doctor looks at whatever host this is: it must tell the truth about known parts and never raise."""

import http.server
import json
import threading

import pytest

from aiops.cli import doctor
from aiops.cli.doctor import Sight, State


def test_probe_names_everything_it_looked_for():
    seen = {sight.what: sight for sight in doctor.probe()}
    assert {"collector host", "collector nvml", "InfiniBand", "PSI", "cgroups", "Slurm", "Kubernetes", "tc"} <= set(seen)
    assert seen["collector host"].state is State.OK
    assert seen["collector prometheus"].detail == "not configured"
    assert all(sight.detail for sight in seen.values())


def test_a_look_that_fails_is_a_fault_with_its_reason():
    def look():
        raise RuntimeError("odd host")

    assert doctor._safely("x", look) == [Sight("x", State.FAULT, "RuntimeError: odd host")]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/-/ready" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("path", "state"), [("/-/ready", State.OK), ("/metrics", State.FAULT)])
def test_an_exporter_is_judged_by_its_answer(port, path, state):
    assert doctor._exporter("x", port, path).state is state


def test_no_exporter_is_no_fault(port, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")  # a proxy must not answer for loopback
    assert doctor._exporter("x", 1, "/-/ready").state is State.ABSENT


def test_kubeconfig_is_found_where_the_environment_says(tmp_path, monkeypatch):
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert doctor._kubernetes()[0].state is State.ABSENT
    config.write_text("apiVersion: v1")
    assert doctor._kubernetes()[0] == Sight("Kubernetes", State.OK, str(config))


def test_json_is_a_list_of_what_state_detail(capsys):
    doctor.show([Sight("tc", State.OK, "v1 [x]")], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"what": "tc", "state": "ok", "detail": "v1 [x]"}]


def test_the_table_shows_brackets_as_they_are(capsys):
    doctor.show([Sight("tc", State.OK, "a [red] b")])
    assert "a [red] b" in capsys.readouterr().out

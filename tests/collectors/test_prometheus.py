"""Scraping endpoints that are well, slow, huge, cut off or malicious."""

import gzip
import http.server
import threading
import time

import pytest

from aiops.errors import ConfigError, Temporary
from aiops.model import SeriesKey
from collectors.prometheus import PrometheusCollector

GOOD = """# HELP node_load1 x
# TYPE node_load1 gauge
node_load1 0.5
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 10
node_cpu_seconds_total{cpu="1",mode="idle"} 20
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",modelName="H100",Hostname="n9"} 50
my_own_metric{a="b"} 3
"""
MIB = 2**20


class Exporter(http.server.BaseHTTPRequestHandler):
    """Answers with what the test put under the path: (status, headers, body, seconds per byte)."""

    def do_GET(self):
        self.server.tokens.append(self.headers.get("Authorization"))
        status, headers, body, pause = self.server.pages[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            if not pause:
                self.wfile.write(body)
            for byte in body if pause else b"":
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.ended.wait(pause):
                    return
        except OSError:
            return  # the collector hung up, as it should

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    one.pages, one.tokens, one.ended = {}, [], threading.Event()
    one.daemon_threads = True
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.ended.set()
    one.shutdown()
    thread.join()
    one.server_close()


def url(server, path="/metrics"):
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def scrape(server, body, status=200, headers=None, pause=0.0, **settings):
    server.pages["/metrics"] = (status, headers or {}, body if isinstance(body, bytes) else body.encode(), pause)
    section = {"url": url(server), "timeout": 5} | settings
    batch = PrometheusCollector.from_settings(section, "f.yaml").collect(1.0)
    return dict(zip(batch.keys, batch.values.tolist(), strict=True))


def test_known_names_are_translated_and_others_left_out(server):
    values = scrape(server, GOOD)
    assert values == {
        SeriesKey.of("node_load1"): 0.5,
        SeriesKey.of("node_cpu_seconds_total", mode="idle"): 30,  # summed over CPUs
        SeriesKey.of("gpu_utilization_ratio", gpu="0", uuid="GPU-a", node="n9"): 0.5,
        SeriesKey.of("gpu_info", gpu="0", uuid="GPU-a", node="n9", model="H100"): 1,
        SeriesKey.of("aiops_target_up", target=url(server)): 1,
        SeriesKey.of("aiops_collector_dropped_samples", collector="prometheus", target=url(server)): 0,
    }


def test_unknown_names_are_kept_on_request_and_the_targets_node_wins(server):
    values = scrape(server, GOOD, url=None, keep_unknown=True, targets=[{"url": url(server), "node": "n1"}])
    assert values[SeriesKey.of("my_own_metric", a="b", node="n1")] == 3
    assert values[SeriesKey.of("node_load1", node="n1")] == 0.5
    assert SeriesKey.of("gpu_utilization_ratio", gpu="0", uuid="GPU-a", node="n1") in values


def test_compressed_answers_are_read(server):
    assert SeriesKey.of("node_load1") in scrape(server, gzip.compress(GOOD.encode()), headers={"Content-Encoding": "gzip"})


LONG = "x" * 65536


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("node_load1 NaN", "not a number says nothing"),
        ("node_load1 +Inf", ""),
        ("node_load1 1e999", "overflows to infinity"),
        ("node_disk_io_now{device=\"sda\"} -5", "a queue is not negative"),
        ("node_disk_reads_completed_total{device=\"sda\"} -1", "a counter is not negative"),
        (f'node_disk_io_now{{device="{LONG}"}} 1', "a payload, not a name"),
        ('node_disk_io_now{device="a\x07b"} 1', "control characters would reach terminals"),
        ('node_disk_io_now{device="a\\nb"} 1', "a newline would break lines of text"),
        ('node_disk_io_now{device="' + "\\" * 4096 + '"} 1', "quadratic for the parser"),
        ('node_disk_io_now{device="\u202eadk"} 1', "reversed text would lie to people"),
    ],
    ids=range(10),
)  # fmt: skip
def test_one_bad_sample_is_dropped_and_the_rest_kept(server, line, why):
    values = scrape(server, f"node_load5 1\n{line}\n")
    assert {key.metric for key in values} == {"node_load5", "aiops_target_up", "aiops_collector_dropped_samples"}, why


def test_a_repeated_line_changes_nothing(server):
    assert scrape(server, "node_load1 1\nnode_load1 2\n")[SeriesKey.of("node_load1")] == 1


def test_labels_named_like_our_parameters_are_only_labels(server):
    values = scrape(server, 'odd{metric="x",cls="y",self="z"} 1\n', keep_unknown=True)
    assert SeriesKey("odd", (("cls", "y"), ("metric", "x"), ("self", "z"))) in values


@pytest.mark.parametrize(
    ("body", "headers", "status", "why"),
    [
        (b"", {}, 200, "no metric"),
        (b"<html><body>login</body></html>", {}, 200, "line 1 does not start with a metric name"),
        (b"\x00\xff\xfe\n" * 10, {}, 200, "does not start"),
        (b'node_load1{a="b', {}, 200, "metrics"),
        (b"node_load1 abc", {}, 200, "metrics"),
        (b"node_load1", {}, 200, "metrics"),
        (GOOD.encode(), {}, 500, "HTTP 500"),
        (GOOD.encode(), {"Location": "http://127.0.0.1:1/"}, 302, "HTTP 302"),
        (b"no gzip at all", {"Content-Encoding": "gzip"}, 200, "incorrect header"),
        (gzip.compress(GOOD.encode() * 100)[:-20], {"Content-Encoding": "gzip"}, 200, "cut off"),
        (gzip.compress(b"\n" * 64 * MIB), {"Content-Encoding": "gzip"}, 200, "more than 1048576 bytes"),
        (b"\n" * 2 * MIB, {}, 200, "more than 1048576 bytes"),
        (GOOD.encode(), {"Content-Length": "99999"}, 200, "metrics"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_whole_gives_nothing(server, body, headers, status, why):
    with pytest.raises(Temporary, match=why):
        scrape(server, body, status, headers, max_bytes=MIB)


def test_a_server_that_drips_is_cut_off_by_the_total_time(server):
    began = time.monotonic()
    with pytest.raises(Temporary, match=r"no complete answer within 0\.3 s"):
        scrape(server, GOOD, pause=0.05, timeout="300ms")
    assert time.monotonic() - began < 10  # dripping to the end would take over ten seconds


def test_a_dead_target_costs_its_own_series_only(server):
    dead = "http://127.0.0.1:1/metrics"
    values = scrape(server, GOOD, targets=[{"url": dead}])
    assert values[SeriesKey.of("aiops_target_up", target=dead)] == 0
    assert values[SeriesKey.of("aiops_target_up", target=url(server))] == 1
    assert SeriesKey.of("node_load1") in values


def test_the_cap_on_series_says_what_it_cut(server):
    body = "".join(f'node_disk_io_now{{device="d{i}"}} 1\n' for i in range(40))
    values = scrape(server, body, max_series=10)
    assert sum(key.metric == "node_disk_io_now" for key in values) == 10
    assert values[SeriesKey.of("aiops_collector_dropped_samples", collector="prometheus", target=url(server))] == 30


def test_an_answer_of_far_too_many_samples_is_refused_before_parsing(server):
    with pytest.raises(Temporary, match="more than 40 samples"):
        scrape(server, "node_load1 1\n" * 41, max_series=10)


def test_the_token_is_read_at_every_scrape(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    scrape(server, GOOD, bearer_file=str(token))
    assert server.tokens == ["Bearer secret"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "expected `url` or `targets`"),
        ({"url": "file:///etc/passwd"}, "expected a URL"),
        ({"url": "ftp://x/"}, "expected a URL"),
        ({"url": "http://x", "tiemout": 1}, "collectors.prometheus.tiemout: unknown key"),
        ({"url": "http://x", "timeout": 0}, "collectors.prometheus.timeout"),
        ({"targets": [{"url": "http://x", "nod": "y"}]}, "unknown key"),
        ({"url": "https://x", "ca_file": "/nonexistent"}, "ca_file"),
    ],
)
def test_wrong_settings_are_one_line(section, message):
    with pytest.raises(ConfigError, match=message) as caught:
        PrometheusCollector.from_settings(section, "f.yaml")
    assert "\n" not in str(caught.value)

"""What one scrape costs on this host: CPU time, duration and samples, per collector and for a whole round.

Baseline in the same run: node_exporter answering one scrape (its own CPU time plus ours for reading the answer), where it
is installed. `--quick` takes fewer rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aiops import plugins
from aiops.clock import SystemClock
from aiops.errors import NoData, Temporary
from aiops.scrape import Scraper

HOST = ("host", "network", "nvml", "pressure", "storage")
GOAL_MS = 5.0


class Discard:
    """A store that keeps nothing, so that only scraping is measured."""

    def append(self, batch):
        """Accept everything."""
        return len(batch.keys)


def measured(call, rounds):
    """Median CPU milliseconds (all threads of this process) and wall milliseconds of `call`, after one to warm up."""
    call()
    cpu, wall = [], []
    for _ in range(rounds):
        cpu_0, wall_0 = time.process_time(), time.perf_counter()
        call()
        cpu.append((time.process_time() - cpu_0) * 1e3)
        wall.append((time.perf_counter() - wall_0) * 1e3)
    return statistics.median(cpu), statistics.median(wall)


def collectors_here():
    """(name, collector, samples) of the collectors that find something on this host."""
    for name in HOST:
        collector = plugins.load("collectors", name)
        try:
            yield name, collector, len(collector.collect(0.0).keys)
        except NoData:
            continue


def cpu_s(pid):
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(collector):
    """Samples of the first answer, or None if the exporter does not come up within ten seconds."""
    for _ in range(100):
        try:
            return len(collector.collect(0.0).keys)
        except Temporary:
            time.sleep(0.1)
    return None


def through_node_exporter(rounds):
    """(CPU ms of node_exporter per scrape, CPU ms of ours, wall ms, samples), or None where it is not installed."""
    binary = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if binary is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([binary, f"--web.listen-address=127.0.0.1:{port}"], **quiet)
    collector = plugins.load("collectors", "prometheus", {"url": f"http://127.0.0.1:{port}"})
    try:
        samples = started(collector)
        if samples is None:
            return None
        before = cpu_s(process.pid)
        cpu, wall = measured(lambda: collector.collect(0.0), rounds)
        return (cpu_s(process.pid) - before) * 1e3 / (rounds + 1), cpu, wall, samples
    finally:
        process.terminate()
        process.wait(10)


def main():
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = 50 if arguments.quick else 300
    table = Table("what", "samples", "CPU ms", "wall ms", title=f"one scrape of this host, median of {rounds}")
    found = list(collectors_here())
    for name, collector, samples in found:
        cpu, wall = measured(lambda c=collector: c.collect(0.0), rounds)
        table.add_row(name, str(samples), f"{cpu:.2f}", f"{wall:.2f}")
    scraper = Scraper(collectors={name: c for name, c, _ in found}, store=Discard(), clock=SystemClock(), node="here")
    cpu, wall = measured(lambda: scraper.scrape(0.0), rounds)
    table.add_row("whole round", str(scraper.scrape(0.0).offered), f"{cpu:.2f}", f"{wall:.2f}", style="bold")
    theirs = through_node_exporter(rounds)
    baseline = {}
    if theirs is not None:
        exporter, ours, wall_theirs, samples = theirs
        table.add_row("node_exporter, its own CPU", "", f"{exporter:.2f}", "")
        table.add_row("node_exporter, our reading of it", str(samples), f"{ours:.2f}", f"{wall_theirs:.2f}")
        baseline = {"node_exporter": exporter + ours}
    Console().print(table)
    Console().print(f"CPU per round {cpu:.2f} ms, goal {GOAL_MS:g} ms: {'met' if cpu <= GOAL_MS else 'MISSED'}")
    figure = {"figure": "scrape_cpu", "value": cpu, "unit": "ms", "goal": GOAL_MS, "better": "lower", "baseline": baseline}
    if arguments.json:
        arguments.json.write_text(json.dumps([figure], indent=2) + "\n")


if __name__ == "__main__":
    main()

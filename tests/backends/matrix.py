"""The conformance matrix: every row of the backend suite, and what became of it over each backend.

    python tests/backends/matrix.py [--write docs/backends.md] [-k EXPRESSION]

Runs the suite's rows wherever they are and prints a table in Markdown; `--write` replaces the one in a page. A row is `yes`,
`FAIL`, or `-` with the reason below; a backend whose server is not installed here has `-` throughout.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from aiops.testing.backend import BackendConformance

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- matrix: made by tests/backends/matrix.py -->", "<!-- end of matrix -->"
ROWS = [name for name in vars(BackendConformance) if name.startswith("test_")]
COLUMNS = {
    "TestLocalBackend": "local",
    "TestSimulatedBackend": "simulated services",
    "TestSimulatedJobs": "simulated jobs",
    "TestSlurmBackend": "slurm, real slurmctld",
    "TestKubernetesBackend": "kubernetes, in process",
    "TestInProcess": "kubernetes by REST, in process",
    "TestReal": "kubernetes, real API server",
}
_SIGNS = {"passed": "yes", "failed": "**FAIL**", "skipped": "-"}


class Results:
    """A pytest plugin that remembers what became of each row in each class."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        self.reasons: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.cls is not None and issubclass(item.cls, BackendConformance)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.split("::")[-1]
        column = COLUMNS.get(report.nodeid.split("::")[-2], "")
        if not column or name not in ROWS or (report.when != "call" and report.passed):
            return
        if report.failed or name not in self.outcomes[column]:
            self.outcomes[column][name] = report.outcome
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[str(report.longrepr[2]).removeprefix("Skipped: ")].add(column)


def table(results: Results) -> str:
    """The matrix and its reasons, in Markdown."""
    columns = list(COLUMNS.values())
    lines = ["| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in ROWS:
        signs = [_SIGNS.get(results.outcomes[column].get(name, ""), "not run") for column in columns]
        lines.append(f"| {name.removeprefix('test_').replace('_', ' ')} | " + " | ".join(signs) + " |")
    totals = [sum(out == "passed" for out in results.outcomes[column].values()) for column in columns]
    lines.append(f"| **of {len(ROWS)} rows** | " + " | ".join(str(count) for count in totals) + " |")
    reasons = [f"- `-` {', '.join(sorted(where))}: {why}" for why, where in sorted(results.reasons.items())]
    return "\n".join([*lines, "", *reasons])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="page whose matrix is replaced")
    parser.add_argument("-k", default="", help="only these tests, as for pytest")
    args = parser.parse_args()
    results = Results()
    quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "--tb=short"]
    code = pytest.main([str(ROOT / "tests" / "backends"), *quiet, *(["-k", args.k] if args.k else [])], [results])
    text = table(results)
    if args.write:
        page = args.write.read_text()
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
        args.write.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page))
    sys.stdout.write(text + "\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())

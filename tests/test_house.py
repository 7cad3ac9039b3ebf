"""The house rules that an import linter cannot see: purity, the one clock, sizes of the public contract."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE = ("aiops/decide", "aiops/diagnose", "aiops/forecast", "aiops/notify/route.py", "policies")
CONTRACT = ("aiops/model.py", "aiops/action.py", "aiops/snapshot.py", "aiops/ports.py", "aiops/errors.py", "aiops/metrics.py")
IMPURE = {
    "os", "time", "random", "threading", "asyncio", "socket", "subprocess", "logging", "sqlalchemy", "fastapi",
    "pathlib", "multiprocessing", "httpx", "requests", "uuid", "secrets", "structlog", "tempfile", "shutil",
}  # fmt: skip
LONG = {
    "aiops/model.py": "the nouns on one page",
    "aiops/action.py": "the sealed union on one page",
    "aiops/ports.py": "every seam on one page",
    "aiops/testing/backend.py": "one conformance suite, a row per method",
}
CLOCKS = {"time", "time_ns", "monotonic", "monotonic_ns", "now", "utcnow", "today", "localtime", "gmtime"}
CLOCK_OWNERS = {"time", "datetime", "date", "dt"}


def sources(*places: str) -> list[Path]:
    paths = [ROOT / place for place in places]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists())]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module.split(".")[0]


def clock_reads(tree: ast.AST) -> list[int]:
    """Lines that read a clock, or that rename one so that a reader would not see it."""
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="time", names=names):
                lines += [node.lineno for alias in names if alias.name in CLOCKS]
            case ast.Import(names=names):
                lines += [node.lineno for alias in names if alias.name in ("time", "datetime") and alias.asname]
            case ast.ImportFrom(module="datetime", names=names):
                lines += [node.lineno for alias in names if alias.name in ("datetime", "date") and alias.asname]
            case ast.Attribute(attr=attr, value=ast.Name(id=owner)) | ast.Attribute(attr=attr, value=ast.Attribute(attr=owner)):
                lines += [node.lineno] * (attr in CLOCKS and owner in CLOCK_OWNERS)
    return lines


@pytest.mark.parametrize("path", sources(*PURE, *CONTRACT), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_pure_core_imports_nothing_impure_not_even_inside_functions(path: Path) -> None:
    found = [(line, name) for line, name in imported(ast.parse(path.read_text())) if name in IMPURE]
    assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("path", sources("aiops", "collectors", "policies"), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_clock_reads_the_wall_clock(path: Path) -> None:
    if path.name == "clock.py" or path.parent.name == "jobs":  # the job client lives in users' programs, on its own
        return
    hits = [f"{path.name}:{line}" for line in clock_reads(ast.parse(path.read_text()))]
    assert not hits


@pytest.mark.parametrize(
    "text", ["import time\ntime.time()", "from time import monotonic", "import time as t", "from datetime import datetime as d",
             "import datetime\ndatetime.datetime.now()", "datetime.now(UTC)", "import time\nread = time.time_ns"]
)  # fmt: skip
def test_the_clock_check_sees_every_way_to_ask(text: str) -> None:
    assert clock_reads(ast.parse(text))


def test_the_clock_check_leaves_durations_and_conversions_alone() -> None:
    text = "import time\nfrom time import perf_counter, sleep\ndatetime.fromtimestamp(0.0, UTC)\nclock.now()\ntime.sleep(1)"
    assert clock_reads(ast.parse(text)) == []


def test_the_purity_check_itself_sees_a_hidden_import() -> None:
    hidden = ast.parse("def f():\n    import time\n")
    assert [name for _, name in imported(hidden)] == ["time"]


@pytest.mark.parametrize("path", sources("aiops", "collectors", "policies"), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", sources("aiops", "collectors", "policies"), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300 or str(path.relative_to(ROOT)) in LONG, "over 300 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= 40, f"{path.name}:{node.name} has {size} lines"

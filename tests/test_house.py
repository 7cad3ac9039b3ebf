"""The house rules that an import linter cannot see: purity, the one clock, sizes of the public contract."""

import ast
import re
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
WALL_CLOCK = re.compile(r"\btime\.time\(|\btime\.monotonic\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\(")


def sources(*places: str) -> list[Path]:
    paths = [ROOT / place for place in places]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists())]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module.split(".")[0]


@pytest.mark.parametrize("path", sources(*PURE, *CONTRACT), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_pure_core_imports_nothing_impure_not_even_inside_functions(path: Path) -> None:
    found = [(line, name) for line, name in imported(ast.parse(path.read_text())) if name in IMPURE]
    assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("path", sources("aiops", "collectors", "policies"), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_clock_reads_the_wall_clock(path: Path) -> None:
    if path.name == "clock.py" or path.parent.name == "jobs":  # the job client lives in users' programs, on its own
        return
    hits = [f"{path.name}:{n}" for n, line in enumerate(path.read_text().splitlines(), 1) if WALL_CLOCK.search(line)]
    assert not hits


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
            assert size <= 60, f"{path.name}:{node.name} has {size} lines"

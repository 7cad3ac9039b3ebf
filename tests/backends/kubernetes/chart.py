"""Just enough of Go's text/template and of helm's functions to render this repository's chart: anything else raises.

Trimming, pipelines, `if`/`else`/`with`/`range`/`define`/`include`, truth and scope are as text/template has them.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.S)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\(|\)|\||[^\s()|]+')
Node = tuple[Any, ...]


def render(chart: Path, values: dict[str, Any], release: str = "aiops", namespace: str = "aiops") -> list[dict[str, Any]]:
    """The objects that the chart makes of `values` over its own defaults."""
    yaml = YAML(typ="safe", pure=True)
    meta = yaml.load(chart / "Chart.yaml")
    top = {
        "Values": _merged(yaml.load(chart / "values.yaml"), values),
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
        "Chart": {"Name": meta["name"], "Version": meta["version"], "AppVersion": meta["appVersion"]},
    }
    templates: dict[str, list[Node]] = {}
    texts = {path: _parse(path.read_text(), templates) for path in sorted((chart / "templates").iterdir())}
    out = (_Run(templates, top).text(nodes, top) for path, nodes in texts.items() if path.suffix == ".yaml")
    return [row for text in out for row in YAML(typ="safe", pure=True).load_all(text) if row]


def _merged(low: Any, high: Any) -> Any:
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return high
    return {
        key: _merged(low[key], high[key]) if key in low and key in high else {**low, **high}[key] for key in {**low, **high}
    }


def _parse(text: str, templates: dict[str, list[Node]]) -> list[Node]:
    return _block(_pieces(text), templates)[0]


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Texts and actions in order, the trims already done."""
    at, trim = 0, False
    for found in _ACTION.finditer(text):
        lead, left, body, right, trail = found.groups()
        before = text[at : found.start()] + lead
        before = before.lstrip() if trim else before
        yield "text", before.rstrip() if left else before
        yield "action", body
        at, trim = found.end() - len(trail), bool(right)
    yield "text", text[at:].lstrip() if trim else text[at:]


def _block(pieces: Iterator[tuple[str, str]], templates: dict[str, list[Node]]) -> tuple[list[Node], str]:
    """Nodes up to the `end` or `else` that closes the block, and which of them it was."""
    nodes: list[Node] = []
    for kind, body in pieces:
        word, _, rest = body.partition(" ")
        if kind == "text":
            nodes.append(("text", body))
        elif word in ("end", "else"):
            return nodes, word
        elif word in ("if", "with", "range", "define"):
            inner, closed = _block(pieces, templates)
            other = _block(pieces, templates)[0] if closed == "else" else []
            if word == "define":
                templates[rest.strip('"')] = inner
            else:
                nodes.append((word, rest, inner, other))
        elif not body.startswith("/*"):
            nodes.append(("value", body))
    return nodes, ""


class _Run:
    def __init__(self, templates: dict[str, list[Node]], top: Any) -> None:
        self._templates, self._top = templates, top

    def text(self, nodes: list[Node], dot: Any) -> str:
        return "".join(self._one(node, dot) for node in nodes)

    def _one(self, node: Node, dot: Any) -> str:
        match node:
            case ("text", text):
                return str(text)
            case ("value", body):
                found = self._value(body, dot)
                return {None: "", True: "true", False: "false"}.get(found, str(found)) if not isinstance(found, list) else ""
            case ("range", body, inner, other):
                rows = self._value(body, dot)
                return "".join(self.text(inner, row) for row in rows) if rows else self.text(other, dot)
            case (word, body, inner, other):
                found = self._value(body, dot)
                return self.text(inner, found if word == "with" else dot) if found else self.text(other, dot)
        raise AssertionError(node)

    def _value(self, body: str, dot: Any) -> Any:
        return self._pipeline(_TOKEN.findall(body), dot)

    def _pipeline(self, tokens: list[str], dot: Any) -> Any:
        depth, stages = 0, [[]]  # type: list[list[str]]
        for token in tokens:
            depth += (token == "(") - (token == ")")
            if token == "|" and not depth:
                stages.append([])
            else:
                stages[-1].append(token)
        found: Any = None
        for index, stage in enumerate(stages):
            found = self._call(self._arguments(stage, dot), [found] if index else [])
        return found

    def _arguments(self, tokens: list[str], dot: Any) -> list[Any]:
        out: list[Any] = []
        while tokens:
            token, tokens = tokens[0], tokens[1:]
            if token == "(":
                depth, end = 1, 0
                while depth:
                    depth += (tokens[end] == "(") - (tokens[end] == ")")
                    end += 1
                out.append(self._pipeline(tokens[: end - 1], dot))
                tokens = tokens[end:]
            else:
                out.append(self._atom(token, dot, first=not out))
        return out

    def _atom(self, token: str, dot: Any, first: bool) -> Any:
        if token.startswith('"'):
            return token[1:-1]
        if token.lstrip("-").isdigit():
            return int(token)
        if token.startswith((".", "$.")):
            found = self._top if token.startswith("$") else dot
            for part in [part for part in token.lstrip("$").split(".") if part]:
                found = found[part]  # KeyError: a value that values.yaml does not declare
            return found
        assert first, f"unexpected {token}"
        return getattr(self, f"do_{token}")

    def _call(self, parts: list[Any], piped: list[Any]) -> Any:
        return parts[0](*parts[1:], *piped) if callable(parts[0]) else parts[0]

    def do_include(self, name: str, dot: Any) -> str:
        return self.text(self._templates[name], dot)

    def do_toYaml(self, value: Any) -> str:
        yaml, out = YAML(typ="safe", pure=True), io.StringIO()
        yaml.default_flow_style = False
        yaml.dump(value, out)
        return out.getvalue().removesuffix("...\n").rstrip("\n")

    def do_nindent(self, count: int, text: str) -> str:
        return "\n" + "\n".join(" " * count + line if line else line for line in text.split("\n"))

    def do_default(self, low: Any, value: Any) -> Any:
        return value or low

    def do_quote(self, value: Any) -> str:
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    def do_trunc(self, count: int, text: str) -> str:
        return text[:count]

    def do_trimSuffix(self, end: str, text: str) -> str:
        return text.removesuffix(end)

    def do_sha256sum(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    def do_not(self, value: Any) -> bool:
        return not value

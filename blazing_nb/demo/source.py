"""What one Python source file holds. Pure but for reading the file."""

from __future__ import annotations

import ast
import sysconfig
import tokenize
from pathlib import Path
from typing import Any

Finding = dict[str, Any]


def library() -> Path:
    """Where the interpreter's standard library is."""
    return Path(sysconfig.get_paths()["stdlib"])


def source_files(limit: int | None = None) -> list[str]:
    """Paths of the library's sources, relative to it, sorted; never what others installed into it."""
    root = library()
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    names = sorted(path.as_posix() for path in found if "site-packages" not in path.parts)
    return names[:limit]


def measure(name: str) -> Finding:
    """Measure one file of the standard library.

    Returns:
        file, bytes, lines, functions, classes, imports (top-level modules), longest (name and lines of the longest
        function, or None); or file, bytes and unparsable (why): some of the library's test data is broken on purpose.
    """
    path = library() / name
    size = path.stat().st_size
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        return {"file": name, "bytes": size, "unparsable": f"{type(error).__name__}: {error}"[:200]}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    longest = max(functions, key=_length, default=None)
    return {
        "file": name,
        "bytes": size,
        "lines": text.count("\n"),
        "functions": len(functions),
        "classes": sum(isinstance(n, ast.ClassDef) for n in ast.walk(tree)),
        "imports": sorted(_imports(tree)),
        "longest": None if longest is None else [longest.name, _length(longest)],
    }


def aggregate(findings: list[Finding]) -> Finding:
    """The fan-in: totals, the longest functions, the most imported modules."""
    parsed = [f for f in findings if "unparsable" not in f]
    imports: dict[str, int] = {}
    for finding in parsed:
        for module in finding["imports"]:
            imports[module] = imports.get(module, 0) + 1
    longest = [(f["longest"][1], f["longest"][0], f["file"]) for f in parsed if f["longest"]]
    return {
        "files": len(findings),
        "unparsable": len(findings) - len(parsed),
        "bytes": sum(f["bytes"] for f in findings),
        "lines": sum(f["lines"] for f in parsed),
        "functions": sum(f["functions"] for f in parsed),
        "classes": sum(f["classes"] for f in parsed),
        "longest": [list(row) for row in sorted(longest, reverse=True)[:10]],
        "imports": [[module, imports[module]] for module in sorted(imports, key=lambda m: (-imports[m], m))[:10]],
    }


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found

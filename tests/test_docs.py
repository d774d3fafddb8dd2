"""The documentation's tree; its links and anchors are checked by `make docs`, where a warning is an error."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(page for page in pages if page not in navigation) == []


def test_the_measured_figures_of_the_readme_are_those_of_the_results() -> None:
    found = table.BLOCK.search(table.README.read_text(encoding="utf-8"))
    assert found and found[0] == found[1] + table.table() + found[2]


def test_the_links_of_the_texts_at_the_root_lead_somewhere() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
        assert [link for link in links if not (ROOT / link).exists()] == [], name


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    bold = set(re.findall(r"\w+", " ".join(re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL))))
    modules = {path.relative_to(ROOT / "blazing_nb").with_suffix("") for path in (ROOT / "blazing_nb").rglob("*.py")}
    assert (
        sorted(str(module) for module in modules if not module.stem.startswith("__") and module.stem not in bold) == []
    )

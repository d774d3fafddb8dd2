"""The documentation's tree; its links and anchors are checked by `make docs`, where a warning is an error."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from benchmarks import table
from blazing_nb import errors
from blazing_nb.command import build_parser
from blazing_nb.store import address
from tests.notebook.test_howto import RUN

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")]
PAGES += sorted(DOCS.rglob("*.md"))
HOWTO = "tests/notebook/test_howto.py::"
REMOTE = "tests/worker/test_remote.py::"
EXECUTED = {
    (f"docs/{name}.md", "python"): f"{HOWTO}test_the_python_of_a_page_runs_and_gives_what_it_says" for name in RUN
}
EXECUTED |= {
    ("README.md", "python"): "tests/notebook/test_readme.py::test_the_readme_and_the_sites_first_page_run",
    ("docs/index.md", "python"): "tests/notebook/test_readme.py::test_the_readme_and_the_sites_first_page_run",
    ("docs/explanation/durability.md", "python"): "tests/fault/test_durability.py::"
    "test_r7_what_a_replica_did_not_confirm_is_asked_for_again_and_stored_once",
    ("docs/howto/cells.md", "python"): "tests/notebook/test_cell.py::test_the_cells_of_the_page_run",
    ("docs/howto/come-from.md", "python"): f"{HOWTO}"
    "test_the_same_program_runs_here_and_compiles_in_the_other_queues_words",
    ("docs/howto/effects.md", "sql"): f"{HOWTO}fences",
    ("docs/howto/jupyterhub.md", "python"): f"{HOWTO}test_the_hubs_configuration_runs_and_names_settings_that_exist",
    ("docs/monitor.md", "python"): f"{HOWTO}test_opentelemetry_is_set_up_as_the_page_says",
    ("docs/workers.md", "python"): f"{HOWTO}test_the_page_on_workers_runs",
    ("docs/reference/api.md", "python"): "tests/test_examples.py::test_every_example_gives_what_it_says",
    ("docs/deploy.md", "ini"): f"{REMOTE}test_the_systemd_unit_starts_a_worker_with_arguments_that_exist",
    ("docs/deploy.md", "dockerfile"): f"{REMOTE}test_the_container_files_command_has_arguments_that_exist",
    ("docs/deploy.md", ""): f"{REMOTE}recipe",
    ("docs/howto/tls-and-acl.md", "text"): f"{REMOTE}recipe",
    ("docs/howto/sentinel-cluster-valkey.md", "text"): "tests/test_docs.py::test_an_url_of_a_page_can_be_read",
    ("docs/monitor.md", "yaml"): "tests/test_docs.py::test_what_prometheus_reads_is_yaml",
    ("docs/monitor.md", "promql"): "tests/worker/test_exporter.py::test_what_the_page_on_monitoring_names_is_exported",
    ("docs/reference/errors.md", "text"): "tests/test_docs.py::test_the_tree_of_the_page_on_errors_is_that_of_the_code",
}
"""(page, language) of the blocks -> who executes or reads them; those in `console` are read below, all of them."""
NOT_OURS = {
    "docs/howto/laptop.md": ["pip install blazing_nb"],  # the release check does
    "docs/monitor.md": [
        "pip install 'blazing_nb[metrics]'",
        "pip install 'blazing_nb[otel]' opentelemetry-distro opentelemetry-exporter-otlp",
        "OTEL_SERVICE_NAME=reports opentelemetry-instrument blazing-nb worker --app reports",
    ],
    "docs/explanation/security.md": [  # their rules are given to a server by tests/store/test_acl.py
        "redis-cli ACL SETUSER bz-demo-client on '>...'",
        "redis-cli ACL SETUSER bz-demo-worker on '>...'",
    ],
}
"""Commands that install, or are another program's: not executed."""


def fenced(page: Path) -> list[tuple[str, str]]:
    """(language, text) of all blocks of code."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_every_block_of_code_is_executed_or_read_by_a_test_that_exists() -> None:
    there = {(str(page.relative_to(ROOT)), language) for page in PAGES for language, _ in fenced(page)}
    assert {block for block in there if block[1] != "console"} == EXECUTED.keys()
    for test in EXECUTED.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def commands(page: Path) -> list[str]:
    """What can be typed: lines of console blocks, and what stands between backquotes."""
    lines = [line for language, text in fenced(page) if language == "console" for line in text.splitlines()]
    typed = [line[2:] for line in lines if line.startswith("$ ")]  # what a root types is podman's
    return typed + re.findall(r"`((?:blazing-nb|%blazing|make) [a-z][^`]*)`", page.read_text(encoding="utf-8"))


def test_the_commands_of_all_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    found = 0
    for page in PAGES:
        others = NOT_OURS.get(str(page.relative_to(ROOT)), [])
        for command in commands(page):
            program, *words = shlex.split(command.partition(" | ")[0], comments=True)
            if program == "make":
                assert set(words) <= targets, command
            elif program in ("blazing-nb", "%blazing") and words[1:] != ["--help"]:
                assert build_parser(program).parse_args(words).verb is not None, command
                found += 1
            else:
                assert command in others or words[1:] == ["--help"], command
    assert found > 60


def test_what_prometheus_reads_is_yaml() -> None:
    scrape, rules = (yaml.safe_load(text) for language, text in fenced(DOCS / "monitor.md") if language == "yaml")
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    (group,) = rules["groups"]
    assert all(rule.keys() == {"alert", "expr", "for"} - ({"for"} - rule.keys()) for rule in group["rules"])


@pytest.mark.parametrize("text", [text for _, text in fenced(DOCS / "howto" / "sentinel-cluster-valkey.md")][:2])
def test_an_url_of_a_page_can_be_read(text: str) -> None:
    parts = urlsplit(text.strip().partition("=")[2])
    assert len(address.hosts(parts)) == 3
    assert parts.scheme != "redis+sentinel" or address.service(parts) == "blazing"


def test_the_tree_of_the_page_on_errors_is_that_of_the_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and errors.BlazingError in kind.__bases__]
    lines = {
        f"{kind.__name__}({kind.__bases__[1].__name__})" if kind.__bases__[1:] else kind.__name__ for kind in kinds
    }
    ((_, tree),) = fenced(DOCS / "reference" / "errors.md")
    for text in (tree, errors.__doc__ or ""):
        assert set(re.findall(r"^[├└]── ([\w()]+)", text, re.MULTILINE)) == lines


def test_every_setting_of_the_environment_is_described_and_exists() -> None:
    """But one that the package gives to a process that it starts."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "blazing_nb").rglob("*.py"))
    known = set(re.findall(r"BLAZING_[A-Z_]+", source)) - {"BLAZING_DASHBOARD_APP"}
    described = (DOCS / "howto" / "configure.md").read_text(encoding="utf-8")
    assert {name for name in known if f"`{name}`" not in described} == set()
    named = {name for page in PAGES for name in re.findall(r"BLAZING_[A-Z_]+", page.read_text(encoding="utf-8"))}
    assert named - known - {"BLAZING_TEST_SERVER"} == set()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(page for page in pages if page not in navigation) == []


def test_the_measured_figures_of_the_readme_are_those_of_the_results() -> None:
    found = table.BLOCK.search(table.README.read_text(encoding="utf-8"))
    assert found and found[0] == found[1] + table.table() + found[2]


def test_the_table_of_durability_in_the_readme_is_the_one_that_is_executed() -> None:
    pages = (ROOT / "README.md", DOCS / "explanation" / "durability.md")
    tables = [page.read_text(encoding="utf-8").partition("\n| level |")[2].partition("\n\n")[0] for page in pages]
    assert tables[0] == tables[1] and "not acknowledged" in tables[0]


def test_the_links_of_the_texts_at_the_root_lead_somewhere() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
        assert [link for link in links if not (ROOT / link).exists()] == [], name


def test_the_architecture_has_every_module_by_its_folder_and_none_that_is_not() -> None:
    """In bold where it is explained, `**folder/one, two**`; between backquotes where it is only named."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    explained = set()
    for bold in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL):
        folder = ""
        for item in re.split(r"[,;|]", bold):
            folder, _, name = " ".join(item.split()).rpartition("/") if "/" in item else (folder, "", item.strip())
            explained.add(f"{folder}/{name}".lstrip("/"))
    package = ROOT / "blazing_nb"
    files = {path.relative_to(package) for path in package.rglob("*.py") if not path.stem.startswith("__")}
    modules = {str(path.with_suffix("")) for path in files}
    assert modules - explained == set()
    folders = "|".join(sorted({path.parts[0] for path in files if path.parts[1:]}))
    named = set(re.findall(rf"`((?:{folders})/\w+)`", text)) | {name for name in explained if "/" in name}
    assert {name for name in named - modules if not (package / name).is_dir()} == set()

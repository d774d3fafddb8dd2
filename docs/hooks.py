"""What the site shows of the repository itself, made when it is built: nothing is written twice.

`{{ scripts }}`, `{{ verbs }}`, `{{ notebooks }}`, `{{ modules }}`, `{{ messages }}` and `{{ file NAME }}` in a page are
replaced.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LUA = ROOT / "blazing_nb" / "store" / "lua"
_MARK = re.compile(r"^\{\{ (\w+)(?: ([\w.]+))? \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARK.sub(lambda found: MAKERS[found[1]](found[2]), markdown)


def scripts(_: str | None) -> str:
    """The contract at the head of each script."""
    parts = []
    for path in sorted(LUA.glob("[!_]*.lua")):
        lines = path.read_text(encoding="utf-8").splitlines()
        head = [line[3:] for line in lines if re.match(r"-- [A-Z]{4,6}\b", line)]
        parts.append(f"## {path.stem}\n\n```text\n" + "\n".join(head) + "\n```\n")
    return "\n".join(parts)


def verbs(_: str | None) -> str:
    """Every verb with its `--help`, under the first place where it can be said."""
    from blazing_nb.command import build_parser

    texts: dict[str, str] = {}
    for place in ("blazing-nb", "%blazing", "%%blazing"):
        parser = build_parser(place)
        for action in parser._actions:
            for name, verb in (action.choices or {}).items() if isinstance(action.choices, dict) else ():
                texts.setdefault(name, verb.format_help().strip())
    return "\n".join(f"## {name}\n\n```text\n{text}\n```\n" for name, text in texts.items())


def notebooks(_: str | None) -> str:
    """A row a notebook: its title, and the paragraph under it."""
    rows = ["| notebook | |", "|---|---|"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title, _, rest = text.partition("\n")
        about = " ".join(rest.strip().split("\n\n")[0].split()).replace("|", "\\|")
        rows.append(f"| `{path.name}`: {title.lstrip('# ')} | {about} |")
    return "\n".join(rows)


def modules(_: str | None) -> str:
    """A row a module: the first sentence of its docstring."""
    rows = ["| module | owns |", "|---|---|"]
    for path in sorted((ROOT / "blazing_nb").rglob("*.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        name = str(path.relative_to(ROOT / "blazing_nb").with_suffix("")).removesuffix("/__init__")
        first = " ".join(about.split("\n\n")[0].split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(rows)


def messages(_: str | None) -> str:
    """Every error with an example message, what it is, and what to do."""
    from blazing_nb import errors

    parts = []
    for name, example in tomllib.loads((ROOT / "docs/reference/messages.toml").read_text(encoding="utf-8")).items():
        kind = getattr(errors, name)
        about = " ".join(kind.__doc__.split("Examples:")[0].split())
        said = f"{name}: {example['message']}"
        parts.append(f"## {name}\n\n{about}\n\n```text\n{said}\n```\n\n*What to do*: {example['do']}\n")
    return "\n".join(parts)


def file(name: str | None) -> str:
    """A file of the repository's root; its links into the repository are left as text."""
    text = (ROOT / str(name)).read_text(encoding="utf-8")
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)[^)]*\)", r"\1", text)


MAKERS = {
    "scripts": scripts,
    "verbs": verbs,
    "notebooks": notebooks,
    "messages": messages,
    "modules": modules,
    "file": file,
}

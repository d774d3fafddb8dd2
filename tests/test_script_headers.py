"""Every script keeps the contract of its header, so that a reader can trust it without reading the body."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blazing_nb.store.script import load

LUA = Path(__file__).parent.parent / "blazing_nb" / "store" / "lua"
FILES = sorted(LUA.glob("*.lua"))
SCRIPTS = [path for path in FILES if not path.name.startswith("_")]
VERBS = {"enqueue", "heartbeat", "open", "rescue", "snapshot", "status", "turn"}

LABELS = ("DOES", "KEYS", "ARGV", "REPLY", "REJECT", "COST", "KEEPS")
LABEL = re.compile(rf"^-- ({'|'.join(LABELS)})\b\s*(.*)$")
FIRST_LINE = re.compile(r"^#!lua( flags=[a-z-]+(,[a-z-]+)*)?$")
NUMBERS = re.compile(r"^(\d+)\s*(?:(\.\.\.?|\+|-)\s*(\d+)?)?")
MAX_CODE_LINES = 60

FORBIDDEN = {
    "error() is wrapped in `ERR user_script:`; use redis.error_reply": re.compile(r"(?<![\w.])error\s*\("),
    "KEYS walks the whole key space": re.compile(r"""['"]KEYS['"]""", re.IGNORECASE),
    "SCAN walks the key space or a whole key": re.compile(r"""['"][HSZ]?SCAN['"]""", re.IGNORECASE),
    "MAXLEN drops entries that nobody has read": re.compile(r"\bMAXLEN\b", re.IGNORECASE),
}


def code_of(path: Path) -> str:
    """The text without comments and the first line. No script has a `--` inside a string."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    return "\n".join(line.split("--", 1)[0].rstrip() for line in lines)


def header_of(path: Path) -> dict[str, list[str]]:
    """Label -> what follows it, line by line, of the comments before the first line of code."""
    header: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        if line.strip() and not line.startswith("--"):
            break
        if match := LABEL.match(line):
            header.setdefault(match[1], []).append(match[2].strip())
    return header


def is_declared(index: int, entries: list[str]) -> bool:
    """Whether a header line numbers it: `1 meta`, `2-4 ...`, `5.. ...`, `5+ ...`."""
    for entry in entries:
        if match := NUMBERS.match(entry):
            first, joint, last = int(match[1]), match[2], match[3]
            upper = int(last) if last else (index if joint else first)
            if first <= index <= upper:
                return True
    return False


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
class TestScript:
    def test_opens_with_a_lua_line(self, path: Path) -> None:
        assert FIRST_LINE.match(path.read_text(encoding="utf-8").splitlines()[0])

    def test_header_has_every_label_and_says_something_at_each(self, path: Path) -> None:
        header = header_of(path)
        assert [label for label in LABELS if not any(header.get(label, []))] == []

    @pytest.mark.parametrize("label", ["KEYS", "ARGV"])
    def test_every_index_that_the_code_uses_is_in_the_header(self, path: Path, label: str) -> None:
        used = {int(number) for number in re.findall(rf"\b{label}\[(\d+)\]", code_of(path))}
        declared = header_of(path)[label]
        assert [index for index in sorted(used) if not is_declared(index, declared)] == []

    def test_every_code_that_it_rejects_with_is_in_the_header(self, path: Path) -> None:
        used = set(re.findall(r"\bBZ[A-Z]+\b", code_of(path)))
        declared = set(re.findall(r"\bBZ[A-Z]+\b", " ".join(header_of(path)["REJECT"])))
        assert used <= declared


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestFile:
    def test_is_short(self, path: Path) -> None:
        lines = [line for line in code_of(path).splitlines() if line.strip()]
        assert len(lines) <= MAX_CODE_LINES

    @pytest.mark.parametrize("reason", FORBIDDEN)
    def test_uses_no_forbidden_word(self, path: Path, reason: str) -> None:
        assert not FORBIDDEN[reason].search(code_of(path)), reason

    def test_rejects_with_more_than_one_word(self, path: Path) -> None:
        """A one-word message comes back from Redis 7.0 as `ERR <word>`."""
        assert not re.search(r"""error_reply\(\s*(['"])[^'"\s]*\1\s*\)""", code_of(path))


def test_the_verbs_of_the_store_are_there() -> None:
    assert {path.stem for path in SCRIPTS} >= VERBS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("error('x')", "error() is wrapped"),
        ("redis.call('KEYS', '*')", "KEYS walks"),
        ("redis.call('HSCAN', k, 0)", "SCAN walks"),
        ("redis.call('XADD', k, 'MAXLEN', 5)", "MAXLEN drops"),
    ],
)
def test_the_forbidden_words_are_found_where_they_are(text: str, reason: str) -> None:
    assert next(why for why, pattern in FORBIDDEN.items() if pattern.search(text)).startswith(reason)


def test_the_allowed_look_alikes_are_not_found() -> None:
    text = "return redis.error_reply('BZFULL depth=1') local n = #KEYS local r = redis.pcall('XLEN', KEYS[1])"
    assert not any(pattern.search(text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize(
    "path", [path for path in SCRIPTS if "-- @defer " in path.read_text(encoding="utf-8")], ids=lambda path: path.stem
)
def test_what_is_deferred_is_made_there_and_needed_before(path: Path) -> None:
    """A name that is not made would be found missing only by the call that needs it."""
    text = load(path.stem).text
    ready, later = text.split("later = function()\n")
    [names] = re.findall(r"^-- @defer ([\w ]+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    body, rest = later.split("LATER = {")
    for name in names.split():
        assert re.search(rf"^local function {name}\(", body, re.MULTILINE), f"{name} is not made"
        calls = re.sub(rf"^local function {name}\(.*$", "", ready, flags=re.MULTILINE) + rest.partition("end\n")[2]
        assert re.search(rf"\b{name}\b", calls), f"{name} is needed by nothing that is always made"

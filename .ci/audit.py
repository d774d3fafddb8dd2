"""Known weaknesses of what is installed: pip-audit, asked in a way that cannot pass in silence.

python .ci/audit.py [--required] [ARGUMENT OF pip-audit ...]

An index may know packages and no advisories, and pip-audit then finds nothing in everything. So each service is first
asked about a version that is known to be weak. 0: audited, nothing found; or, unless --required, NOT AUDITED, in
capitals. What was audited is not asked again for a day.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

WEAK = ("jinja2", "2.4.1")
"""The version that the documentation of OSV asks about. A service that knows no advisory of it knows none."""
OURS = "blazing_nb"
PATIENCE_S = 5
DAY_S = 86_400
PYPI = "https://pypi.org/pypi/{}/{}/json"
OSV = "https://api.osv.dev/v1/query"
OPTIONS = ["--strict", "--disable-pip", "--no-deps", "--progress-spinner", "off"]


def main(arguments: list[str]) -> int:
    required = "--required" in arguments
    extra = [argument for argument in arguments if argument != "--required"]
    digest = hashlib.sha256("\n".join(installed()).encode()).hexdigest()[:16]
    stamp = Path(sys.prefix) / f".audited-{digest}"
    if not (extra or required) and stamp.exists() and time.time() - stamp.stat().st_mtime < DAY_S:
        print("audited within the last day, and nothing was installed since")
        return 0
    own = extra[extra.index("--osv-url") + 1] if "--osv-url" in extra else ""
    said = {"osv": osv(own)} if own else {"pypi": pypi(PYPI), "osv": osv(OSV)}
    service = next((name for name, reason in said.items() if not reason), "")
    if not service:
        return not_audited(said, required)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as asked:
        asked.write("\n".join(name for name in installed() if not name.startswith(f"{OURS}==")))
        asked.flush()
        asking = [] if "-r" in extra else ["-r", asked.name]
        code = subprocess.call([sys.executable, "-m", "pip_audit", "-s", service, *OPTIONS, *asking, *extra])
    if code == 0 and not extra:
        stamp.touch()
    return code


def installed() -> list[str]:
    """As an index knows them. `pip-audit --strict` would not have what is installed from here, which none knows."""
    return sorted(f"{found.metadata['Name']}=={found.version}" for found in importlib.metadata.distributions())


def pypi(url: str) -> str:
    """Why it cannot be asked; empty where it can."""
    name, version = WEAK
    try:
        answer = requests.get(url.format(name, version), timeout=PATIENCE_S)
        known = answer.json().get("vulnerabilities") if answer.ok else None
    except (requests.RequestException, ValueError) as error:
        return f"{type(error).__name__}"
    return "" if known else f"it knows no advisory of {name} {version} (HTTP {answer.status_code})"


def osv(url: str) -> str:
    """The same of the other protocol."""
    name, version = WEAK
    query = {"package": {"name": name, "ecosystem": "PyPI"}, "version": version}
    try:
        answer = requests.post(url, json=query, timeout=PATIENCE_S)
        known = answer.json().get("vulns") if answer.ok else None
    except (requests.RequestException, ValueError) as error:
        return f"{type(error).__name__}"
    return "" if known else f"it knows no advisory of {name} {version} (HTTP {answer.status_code})"


def not_audited(said: dict[str, str], required: bool) -> int:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in said.items())
    print(f"NOT AUDITED: no service of advisories answers here ({reasons}).", file=sys.stderr)
    print("Run `make audit` where one does, before a release; `make release-check` insists.", file=sys.stderr)
    return 1 if required else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

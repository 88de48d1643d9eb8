"""Audits the installed packages: whole, pinned, named, and free of known holes where the service that lists them is reachable.

    python tools/audit.py [--offline]

Fails where requirements do not fit together, an installed package is not the one pinned in constraints.txt, one that
Understudy runs on is not named in NOTICE.md, or pip-audit knows a hole. Where pip-audit, which gets an environment of its own,
or its service cannot be had, it says so and does not fail, because that says nothing about the packages.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import entry
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OURSELVES = "understudy"
TOOLS = ("pip", "wheel", OURSELVES)
"""Installed with every virtual environment, or us: nothing that is pinned."""
PIP_AUDIT = "pip-audit==2.10.1"
MOST_SECONDS = 60


def main() -> None:
    """Prints what was found; exit status 1 where something must be mended."""
    parser = entry.parser(__doc__)
    parser.add_argument("--offline", action="store_true", help="leave out the question for known holes")
    options = parser.parse_args()
    installed = installed_packages()
    pins = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    notice = (ROOT / "NOTICE.md").read_text(encoding="utf-8")
    faults = [*unfitting(), *unpinned(installed, pins), *unnamed(running_on(OURSELVES, installed), notice)]
    if options.offline:
        print("audit: known holes were not asked for (--offline)")
    else:
        faults += known_holes()
    for fault in faults:
        print(f"audit: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"audit: {len(installed)} packages fit together and are pinned; all that Understudy runs on are named in NOTICE.md")


def installed_packages() -> dict[str, str]:
    """The version of each installed package, by its plain name."""
    found = importlib.metadata.distributions()
    return {plain(each.metadata["Name"]): each.version for each in found if each.metadata["Name"]}


def plain(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """The versions in a constraints file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {plain(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def unfitting() -> Iterator[str]:
    """What `pip check` says of requirements that do not fit together."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield from done.stdout.strip().splitlines() or [f"pip cannot be asked whether all fits together: {done.stderr.strip()}"]


def unpinned(installed: Mapping[str, str], pins: Mapping[str, str]) -> Iterator[str]:
    """Installed packages that the tests did not pass with; a local build (torch 2.13.0+cpu) counts as its version."""
    for name, version in sorted(installed.items()):
        if name in TOOLS or name.startswith(("nvidia-", "cuda-", "triton")):  # what another system's torch brings
            continue
        if name not in pins:
            yield f"{name} {version} is not pinned in constraints.txt; pin it, or take it away (pip uninstall {name})"
        elif version.split("+")[0] != pins[name]:
            yield f"{name} is {version}, constraints.txt says {pins[name]}; run make setup, or change the pin"


def running_on(name: str, installed: Mapping[str, str]) -> set[str]:
    """All packages that a package needs to run, itself left out, by plain name; extras are left out."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or []:
            needed = Requirement(text)
            asked = plain(needed.name)
            if (needed.marker is None or needed.marker.evaluate({"extra": ""})) and asked in installed and asked not in found:
                found.add(asked)
                waiting.append(asked)
    return found


def unnamed(names: set[str], notice: str) -> Iterator[str]:
    """Packages that NOTICE.md does not name."""
    listed = {plain(word) for word in re.split(r"[|,\s`*]+", notice) if word}
    for name in sorted(names - listed):
        yield f"{name} is not named in NOTICE.md; add it with its licence"


def known_holes() -> list[str]:
    """What pip-audit knows of the installed packages. Says so where it cannot be asked."""
    with tempfile.TemporaryDirectory(prefix="understudy-audit-") as folder:
        try:
            python = _python_with_pip_audit(Path(folder))
            command = [
                python,
                "-m",
                "pip_audit",
                "--path",
                str(_site_packages()),
                "--format",
                "json",
                "--progress-spinner",
                "off",
            ]
            done = subprocess.run(
                [*command, "--timeout", "5"], capture_output=True, text=True, timeout=MOST_SECONDS, check=False
            )
            report = json.loads(done.stdout)["dependencies"]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            print("audit: NOT CHECKED for known holes: pip-audit or the service that lists them is not reachable from here")
            return []
    asked = [each for each in report if "vulns" in each]
    print(f"audit: {len(asked)} packages were looked up for known holes, {len(report) - len(asked)} are not listed there")
    return [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for each in asked
        for hole in each["vulns"]
    ]


def _python_with_pip_audit(folder: Path) -> str:
    """An interpreter that has pip-audit: this one, or one of an environment of its own, which leaves ours as it is."""
    here = subprocess.run([sys.executable, "-m", "pip_audit", "--version"], capture_output=True, check=False)
    if not here.returncode:
        return sys.executable
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    options = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "5"]
    subprocess.run([python, "-m", "pip", "install", *options, PIP_AUDIT], capture_output=True, timeout=MOST_SECONDS, check=True)
    return python


def _site_packages() -> Path:
    return Path(importlib.metadata.distribution("numpy").locate_file(""))  # type: ignore[arg-type]


if __name__ == "__main__":
    entry.run(main)

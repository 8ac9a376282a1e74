"""Print a constraints file with the lowest version that pyproject.toml allows of each dependency.

``python .ci/lowest.py [GROUP ...] > lowest.txt``, then ``pip install --constraint lowest.txt --editable . --group test``. Groups are
those of ``[dependency-groups]``; what they need is pinned, too.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?>=(?P<version>[0-9.]+)")


def pins(project: dict, groups: list[str]) -> list[str]:
    """Return lines ``name==version`` of the dependencies of a project and of some of its groups."""
    wanted = list(project["project"]["dependencies"])
    for group in groups:
        wanted += [one for one in project["dependency-groups"][group] if isinstance(one, str)]
    lines = []
    for requirement in wanted:
        found = REQUIREMENT.fullmatch(requirement)
        if found is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lowest version: write name>=version.")
        lines.append(f"{found['name']}=={found['version']}")
    return lines


if __name__ == "__main__":
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.write("\n".join(pins(tomllib.loads(text), sys.argv[1:])) + "\n")

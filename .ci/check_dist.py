"""Look into the wheel and the sdist of a folder: all that is needed, and nothing else."""

import sys
import tarfile
import zipfile
from pathlib import Path

NEEDED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs/conf.py", "docs/architecture.md")
NEEDED += ("tests/conftest.py", "tests/small.py", "tests/data/model_0.1.scdae", "tutorials/quickstart.ipynb")
NEEDED += ("docs/_static/demo.png", "benchmarks/open_problems/script.py", "src/scdae/py.typed")
UNWANTED = (".venv", "output/", "_build/", "generated/", "__pycache__", ".h5ad")


def problems(folder: Path) -> list[str]:
    """What is wrong, one line each."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{folder} has {len(wheels)} wheels and {len(sdists)} sdists in place of one each"]
    inside = set(zipfile.ZipFile(wheels[0]).namelist())
    found = [
        f"the wheel has {name}"
        for name in inside
        if not name.startswith("scdae/") and not name.split("/")[0].endswith(".dist-info")
    ]
    source = {path.relative_to("src").as_posix() for path in Path("src/scdae").rglob("*.py")} | {"scdae/py.typed"}
    found += [f"the wheel lacks {name}" for name in sorted(source - inside)]
    with tarfile.open(sdists[0]) as archive:
        packed = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    found += [f"the sdist lacks {name}" for name in NEEDED if name not in packed]
    found += [f"the sdist has {name}" for name in sorted(packed) if any(part in name for part in UNWANTED)]
    return found


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    sys.stdout.write("".join(f"{line}\n" for line in found) or "Wheel and sdist hold what they should.\n")
    raise SystemExit(bool(found))

"""Tables and the figure of what was recorded, for the documentation."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from compared import METHODS, RECORD, TYPE_METHODS, TYPES_RECORD
from peers import ON_REQUEST

DOCS = Path(__file__).resolve().parents[1] / "docs"
TABLE, FIGURE = DOCS / "_static/compare_table.md", DOCS / "_static/compare.png"
TYPES = DOCS / "_static/fidelity_table.md"
ORDER = (*TYPE_METHODS[:3], *ON_REQUEST, *TYPE_METHODS[3:])  # rows of the table of cell types
OURS, PEER = "#c0392b", "#5d6d7e"
FLOOR = -0.05  # far below the gene means, all are alike


def table(record: dict) -> str:
    """Markdown: a table for each data set, the best first."""
    parts = []
    for name, entry in record.items():
        parts.append(f"\n**{name}**, {entry['cells']:,} cells x {entry['genes']:,} genes\n")
        truth = any("error" in found for found in entry["methods"].values())
        columns = [
            "method",
            "held-out skill",
            *(["error of log expression"] if truth else []),
            "seconds",
            "processor s",
            "GiB",
        ]
        columns += ["times scdae's seconds", "version"]
        parts += [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 2) + " --- |"]
        ours = entry["methods"].get("scdae", {}).get("seconds")
        for method, found in sorted(entry["methods"].items(), key=lambda item: -item[1]["skill"]):
            version = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
            row = [METHODS[method][0], f"{found['skill']:.4f}", *([f"{found['error']:.3f}"] if truth else [])]
            row += [
                f"{found['seconds']:,.1f}",
                f"{found['processor']:,.1f}",
                f"{found['gib']:.2f}",
                f"{found['seconds'] / ours:.1f}" if ours else "",
            ]
            parts.append(f"| {' | '.join([*row, version])} |")
    machines = {
        f"{found['machine']['cpu']}, {found['machine']['cores']} cores, {found['machine']['gib']} GiB, "
        f"{found['machine']['system']}, {found['date']}"
        for entry in record.values()
        for found in entry["methods"].values()
    }
    return "\n".join([*parts, "", "Measured on: " + "; ".join(sorted(machines)) + ".", ""])


def figure(record: dict) -> plt.Figure:
    """Skill against seconds for each data set; the area of a point is its memory."""
    shown, axes = plt.subplots(1, len(record), figsize=(4.6 * len(record), 3.8), layout="constrained", squeeze=False)
    for axis, (name, entry) in zip(axes[0], record.items(), strict=True):
        found = entry["methods"]
        places = {method: (row["seconds"], max(row["skill"], FLOOR)) for method, row in found.items()}
        axis.set(xscale="log", title=f"{name}, {entry['cells']:,} cells", xlabel="seconds, whole process")
        for method, place in places.items():
            color = OURS if method.startswith("scdae") else PEER
            axis.scatter(*place, s=60 * found[method]["gib"], color=color, alpha=0.75, linewidths=0)
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.margins(x=0.25, y=0.15)
        seconds = [place[0] for place in places.values()]
        wide = max(seconds) > 100 * min(seconds)
        axis.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axis.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.spines[["top", "right"]].set_visible(False)
        _label(axis, found, places)
    axes[0, 0].set_ylabel("held-out skill (0: gene means)")
    shown.suptitle(
        "Better is up and left; the area is peak memory; scdae with and without its programs compiled before",
        size=9,
        color="0.4",
    )
    return shown


def _label(axis: plt.Axes, found: dict, places: dict) -> None:
    """Name the points, to their right; a second run of the same method goes without."""
    for method, place in places.items():
        if method == "scdae_again":
            continue
        text = METHODS[method][0].split(" (")[0]
        if found[method]["skill"] < place[1]:
            text += f" ({found[method]['skill']:.2f})"
        reach = 3 + 4 * found[method]["gib"] ** 0.5  # beyond the point
        color = OURS if method == "scdae" else PEER
        axis.annotate(text, place, xytext=(reach, 0), textcoords="offset points", va="center", color=color, size=8)


def render(record: dict) -> None:
    """Write both into the documentation."""
    TABLE.write_text(table(record), encoding="utf-8")
    with mpl.rc_context({"font.size": 9}):
        shown = figure(record)
    shown.savefig(FIGURE, dpi=150, metadata={"Software": None})
    plt.close(shown)


def types_table(record: dict) -> str:
    """Markdown: cell types restored by each method, a table for each data set, and single markers."""
    parts = []
    for name, entry in record.items():
        data, label = name.split(", ")
        parts.append(
            f"\n**{data}**, {entry['types']} types by `{label}`, {entry['cells']:,} cells x {entry['genes']:,} genes\n"
        )
        parts.append("| method | zeros inside | zeros outside | restored over raw, lowest type | highest |")
        parts.append("| --- | ---: | ---: | ---: | ---: |")
        for method in [one for one in ORDER if one in entry["methods"]]:
            found = entry["methods"][method]
            numbers = [f"{found[part]:.2f}" for part in ("zeros_in", "zeros_out")]
            numbers += [f"{found['lowest']:.2f} ({found['lowest_type']})", f"{found['highest']:.2f}"]
            parts.append(f"| {method} | {' | '.join(numbers)} |")
        if "markers" in entry:
            parts += [
                "",
                "| marker | type | cells | raw | scdae | scdae, output='prior' |",
                "| --- | --- | ---: | ---: | ---: | ---: |",
            ]
            for row in entry["markers"]:
                means = [
                    f"{row[part][0]:.2f}, {row[part][1]:.2f}" for part in ("raw", "scdae", "scdae, output='prior'")
                ]
                parts.append(f"| {row['gene']} | {row['type']} | {row['cells']:,} | {' | '.join(means)} |")
            parts.append("\nMean molecules a cell, inside the type and outside it.")
    return "\n".join([*parts, ""])


def render_fidelity(record: dict) -> None:
    """Write it into the documentation."""
    TYPES.write_text(types_table(record), encoding="utf-8")


if __name__ == "__main__":
    import json

    mpl.use("Agg")
    render(json.loads(RECORD.read_text()))
    if TYPES_RECORD.exists():
        render_fidelity(json.loads(TYPES_RECORD.read_text()))

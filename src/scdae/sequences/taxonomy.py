"""Genus of a sequence, from its header line as the databases of the field write it."""

from __future__ import annotations

import re

__all__ = ["genus_of", "is_lineage"]

_NUMBER = re.compile(r"#\d+$")  # behind a lineage that several sequences have as their header line
_CONFIDENCE = re.compile(r"\(\d*\.?\d+%?\)$")
_SINTAX = re.compile(r"\btax=([^;]*)")
_WITH_RANKS = re.compile(r"lineage=([^\t]*)", re.IGNORECASE)
_PREFIXED = re.compile(r"(?:^|[\s;,|=])(?:g__|g:|D_5__|genus[:=])([^;,|\t]*)", re.IGNORECASE)
_HAS_PREFIXES = re.compile(r"(?:^|[\s;,|=])(?:[kdpcofs]__|D_0__)")
_NOTE = re.compile(r"(?:(?:TPA|TPA_\w+|PREDICTED|UNVERIFIED\w*|MAG)\s*:\s*)+")
_DOMAINS = frozenset(
    (
        *("archaea", "bacteria", "eukarya", "eukaryota", "eucarya", "eukaryotes", "fungi", "metazoa", "viridiplantae"),
        *(
            "animalia",
            "plantae",
            "chromista",
            "protista",
            "protozoa",
            "viruses",
            "unassigned",
            "unclassified",
            "unknown",
        ),
    )
)
_ROOTS = frozenset(("root", "cellularroot", "cellular organisms", "life"))
_FROM_DOMAIN = re.compile(  # a lineage that an identifier is joined to: "AB1|Bacteria;...", or with "|" between levels
    rf"[\s|;,:=_]((?:{'|'.join(sorted(_DOMAINS - {'unassigned', 'unclassified', 'unknown'}))})\s*[;|].*)", re.IGNORECASE
)
_NAME = re.compile(r"['\"\[]?[A-Z][a-z]{2,}['\"\]]?")
_BINOMIAL = re.compile(r"([A-Z][a-z]{2,}) [a-z]{3,}")
_DEEP = 5  # levels above a genus, from the domain on
_FEWEST = 3  # levels of a lineage
_HIGHER = ("aceae", "ales", "ineae", "idae", "oidea", "mycetes", "mycota", "phyta")
_NOBODY = frozenset(
    (
        *("", "-", "na", "n/a", "nan", "none", "null", "unknown", "unclassified", "unassigned", "unidentified"),
        *("undefined", "undetermined", "uncultured", "unculturable", "uncultivated", "unnamed", "environmental"),
        *("metagenome", "metagenomic", "sp.", "gen.", "no_genus"),
    )
)
_ANYBODY = frozenset(("bacterium", "archaeon", "eukaryote", "prokaryote", "organism", "microorganism", "metagenome"))
_UNSURE = re.compile(
    r"incertae[ _-]?sedis|^unclassified[ _]|[ _]unclassified$|^unidentified[ _]|^uncultured[ _]|^unknown[ _]|^family[ _]|"
    r"[ _](family|order|class|phylum)$|[ _]fa$",
    re.IGNORECASE,
)
_ONLY_PLACE = frozenset(("uncultured", "unculturable", "uncultivated", "unidentified", "unclassified", "unnamed"))


def genus_of(header: str) -> str:
    """Genus that a header line names; an empty text where it names none.

    Parameters
    ----------
    header
        Identifier and description, without ``>``. Known are lineages (SILVA, RDP, GTDB, Greengenes, UNITE, sintax, the
        training sets for DADA2) and descriptions that begin with the name of the organism (NCBI).

    Returns
    -------
    str
        ``"Candidatus X"`` for such genera. Nothing for words such as "uncultured" and "Incertae Sedis", which stand for
        sequences that have nothing in common.

    Examples
    --------
    >>> genus_of("AB1.1.1400 Bacteria;Bacillota;Bacilli;Bacillales;Bacillaceae;Bacillus;uncultured bacterium")
    'Bacillus'
    >>> genus_of("NR_1.1 Candidatus Pelagibacter ubique strain HTCC1062")
    'Candidatus Pelagibacter'
    """
    header = header.strip()
    description = (header.split(None, 1) + ["", ""])[1]
    if match := _SINTAX.search(header):
        ranks = dict(part.partition(":")[::2] for part in match[1].split(","))
        return _named(ranks.get("g", ""))
    if match := _WITH_RANKS.search(header):
        parts = [part.strip() for part in match[1].split(";")]
        return _named(parts[parts.index("genus") - 1]) if "genus" in parts[1:] else ""
    if match := _PREFIXED.search(header):
        return _named(re.split(r"\s[a-z]__", match[1])[0])
    if _HAS_PREFIXES.search(header):
        return ""
    below = _FROM_DOMAIN.search(header)
    lineage = below[1].replace("|", ";") if below else ""
    for text in (header, description, description.rpartition("\t")[2], lineage, header.rpartition("|")[2]):
        if is_lineage(text) or (text is not header and _may_be_lineage(text)):
            return _named(_of_lineage(text))
    return _of_organism(_joined_name(header) or description)


def _joined_name(header: str) -> str:
    """Name of an organism that is joined to the identifier, as in "AB1|Bacillus subtilis"; nothing where it is apart."""
    first = re.split(r"[|;]", header.split(None, 1)[0]) if header else [""]
    if len(first) < 2:
        return ""
    name = re.split(r"[|;]", header)[-1].strip()
    return name if _NAME.fullmatch((name.split() or [""])[0]) else ""


def is_lineage(text: str) -> bool:
    """Return whether a text is a lineage, from the domain down, with ``;`` between levels.

    Examples
    --------
    >>> is_lineage("Bacteria;Bacillota;Bacilli;"), is_lineage("AB1 Bacillus subtilis; partial sequence")
    (True, False)
    """
    levels = _levels(text)
    return bool(levels) and len(text.split(";")) >= _FEWEST and levels[0].lower() in _DOMAINS


def _may_be_lineage(text: str) -> bool:
    levels = _levels(text)
    return len(levels) >= _FEWEST and len(levels[0].split()) == 1 and max(len(level.split()) for level in levels) <= 4


def _levels(text: str) -> list[str]:
    """Levels of a lineage but for its root, without marks and confidences."""
    levels = [_CONFIDENCE.sub("", part.strip().strip("\"'")) for part in text.split(";")]
    levels = [part for part in levels if not _NUMBER.fullmatch(part)]
    if levels and levels[0].lower() in _ROOTS:
        levels = levels[1:]
    while levels and not levels[-1]:
        levels.pop()
    return levels


def _of_lineage(text: str) -> str:
    """Return the level that is a genus: the one below a family, or the sixth, or the last but a species."""
    levels = _levels(text)
    families = [i for i, level in enumerate(levels) if level.endswith("aceae") and not _UNSURE.search(level)]
    species = _BINOMIAL.fullmatch(levels[-1]) if len(levels) > 1 and levels[-2].lower().endswith(_HIGHER) else None
    if species and not _UNSURE.search(levels[-1]) and not levels[-1].endswith((*_ANYBODY, *_HIGHER)):
        first = species[1]
        if first.lower() not in _NOBODY and not first.lower().endswith(_HIGHER):
            return first  # there is no level of the genus
    if families:
        return levels[families[-1] + 1] if families[-1] + 1 < len(levels) else ""
    if len(levels) > 2 and _is_species(levels[-1], levels[-2]) and len(levels) == _DEEP + 1:
        levels = levels[:-1]
    elif levels[0].lower() in ("bacteria", "archaea") and len(levels) > _DEEP:
        return levels[_DEEP]
    elif len(levels) > 2 and _is_organism(levels[-1], levels[-2]):
        levels = levels[:-1]
    last = levels[-1]
    open_ended = _NUMBER.sub("", text.strip()).endswith(";") and len(levels) <= _DEEP
    return "" if open_ended or last.lower().endswith(_HIGHER) else last


def _is_organism(last: str, above: str) -> bool:
    """Return whether the last level is a species or a strain, and not a genus."""
    words = last.replace("_", " ").split()
    first = words[0].lower() if words else ""
    return len(words) > 1 or first in _NOBODY or first == above.lower() or last[:1].islower()


def _is_species(last: str, above: str) -> bool:
    """Return whether the last of six levels, which is a genus as a rule, is a species all the same."""
    words = last.replace("_", " ").split()
    return len(words) > 1 and (words[0] == above or words[0].lower() in _NOBODY)


def _of_organism(description: str) -> str:
    """First word of a description, as NCBI writes it, if that is a name."""
    words = _NOTE.sub("", description, count=1).replace(",", " ").split()
    if words and words[0].strip("'\"").lower() in _ONLY_PLACE and len(words) > 1:
        if not words[1][:1].isupper() or words[1].lower().endswith(_HIGHER):
            return ""
        words = words[1:]
    if not words or _ANYBODY.intersection(word.lower() for word in words[: 1 if words[0][:1].isupper() else 4]):
        return ""
    if len(words) > 1 and words[1].lower() in _ANYBODY:  # "Lachnospiraceae bacterium": the family at best
        return ""
    if words[0].strip("'\"").lower() == "candidatus" and len(words) > 1:
        return _named("Candidatus " + words[1].strip("'\""))
    return _named(words[0])


def _named(text: str) -> str:
    """Return a name without marks, or nothing where it stands for no genus."""
    name = _CONFIDENCE.sub("", _NUMBER.sub("", text.strip()).strip().strip("\"'")).strip()
    if name.lower() in _NOBODY or _UNSURE.search(name):
        return ""
    if name.lower().startswith(("candidatus_", "ca._", "ca. ")):
        return f"Candidatus {re.split('[_ ]', name, maxsplit=1)[1]}"
    return name

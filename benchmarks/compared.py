"""What is compared, by name, and where the results are kept: for those who compare and for those who show it."""

from pathlib import Path

_RECORDED = Path(__file__).resolve().parent / "recorded"

RECORD = _RECORDED / "compare.json"
METHODS = {  # name shown, and the environment that has it; None is this one
    "scdae": ("scdae", None),
    "scdae_again": ("scdae, compiled before", None),
    "magic": ("MAGIC", "magic"),
    "dca": ("DCA", "dca"),
    "halra": ("ALRA (halra)", "halra"),
    "scvi": ("scVI", "base"),
    "low_rank": ("SVD, rank chosen (scikit-learn)", None),
    "neighbors": ("32 nearest cells (scikit-learn)", None),
}

TYPES_RECORD = _RECORDED / "fidelity.json"  # cell types, one by one
OURS, DECODER = "scdae", "scdae, output='prior'"
RAW, MEANS = "raw counts", "gene means"
TYPE_METHODS = (OURS, DECODER, "MAGIC", "SVD, rank chosen", RAW, MEANS)

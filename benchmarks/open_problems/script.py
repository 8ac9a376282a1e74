"""Reads train.h5ad, writes denoised.h5ad: the interface of the denoising task of Open Problems.

    python benchmarks/open_problems/script.py TRAIN OUTPUT     # outside of viash

viash puts `par` and `meta` in the place of what stands between its two marks.
"""

import sys

import anndata as ad
import numpy as np

import scdae

## VIASH START
par = {
    "input_train": sys.argv[1] if len(sys.argv) > 1 else "train.h5ad",
    "output": sys.argv[2] if len(sys.argv) > 2 else "denoised.h5ad",
    "output_scale": "log1p",
    "train_share": 0.9,
    "seed": 0,
}
meta = {"name": "scdae"}
## VIASH END


def denoise(train, output_scale, train_share, seed):
    """Denoised values on a count scale, float32 (n_obs, n_vars), from ``train.layers["counts"]``."""
    model = scdae.DAE(seed=seed).fit(train, layer="counts")
    if output_scale == "mean":
        return model.impute(train, layer="counts")
    molecules = np.asarray(train.layers["counts"].sum(axis=1)).ravel()
    depth = np.maximum(molecules * (1 - train_share) / train_share, 1)
    return on_count_scale(model.impute(train, layer="counts", output="log1p", depth=depth))


def on_count_scale(logs):
    """Counts per 10,000 of which the logarithm, after scaling each cell to 10,000, is that given.

    Undoing an expected logarithm leaves less than 10,000 in a cell, and scaling would lift all genes. What is missing
    goes to the cell's largest entry, the one whose logarithm it moves least.
    """
    values = np.expm1(logs)
    cells = np.arange(len(values))
    values[cells, values.argmax(axis=1)] += np.maximum(1e4 - values.sum(axis=1), 0)
    return values


def main(par, meta):
    """Read, denoise, write."""
    train = ad.read_h5ad(par["input_train"])
    output = ad.AnnData(
        obs=train.obs[[]],
        var=train.var[[]],
        layers={"denoised": denoise(train, par["output_scale"], par["train_share"], par["seed"])},
        uns={"dataset_id": train.uns["dataset_id"], "method_id": meta["name"]},
    )
    output.write_h5ad(par["output"], compression="gzip")


if __name__ == "__main__":
    main(par, meta)

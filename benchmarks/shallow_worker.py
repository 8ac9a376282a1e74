"""What of the benchmark of shallow queries runs in scVI's environment: ``shallow_worker.py REFERENCE OUT QUERY...``."""

import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np

EPOCHS = 200  # of mapping a query, as scvi-tools' pages on reference mapping do


def main():
    """Train scVI on the reference; write what it restores of each query, as it is and after mapping it."""
    import scvi
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # two are many times slower wherever another process wants a core
    scvi.settings.seed = 0
    source, target, *queries = sys.argv[1:]
    reference = ad.read_h5ad(source)
    reference.obs["batch"] = "reference"
    scvi.model.SCVI.setup_anndata(reference, batch_key="batch")
    # layer norms and the batch in the encoder: what scvi-tools asks for where a query is to be mapped
    model = scvi.model.SCVI(
        reference, n_layers=2, encode_covariates=True, use_layer_norm="both", use_batch_norm="none", dropout_rate=0.2
    )
    model.train(accelerator="cpu", early_stopping=True, enable_progress_bar=False)
    for path in queries:
        query = ad.read_h5ad(path)
        for how, batch in (("applied", "reference"), ("mapped", "query")):
            own = query.copy()
            own.obs["batch"] = batch
            depth = np.asarray(own[:, own.var_names.isin(reference.var_names)].X.sum(axis=1)).ravel()
            scvi.model.SCVI.prepare_query_anndata(own, model)
            here = scvi.model.SCVI.load_query_data(own, model)
            if how == "mapped":
                here.train(
                    max_epochs=EPOCHS,
                    accelerator="cpu",
                    plan_kwargs={"weight_decay": 0.0},
                    enable_progress_bar=False,
                )
            else:
                here.is_trained_ = True  # nothing is new in it
            share = here.get_normalized_expression(library_size=1, return_numpy=True)
            both = np.isin(reference.var_names, query.var_names)  # fractions of the molecules that the query can have
            share = share / share[:, both].sum(axis=1, keepdims=True)
            np.save(Path(target) / f"{Path(path).stem}-{how}.npy", np.asarray(share * depth[:, None], np.float32))


if __name__ == "__main__":
    main()

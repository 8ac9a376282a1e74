"""Profiles projected to what a model has learned, before a classifier sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scdae.arguments.names import check_name, names_of_genes
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.guard.purification import SCALES, Purification
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import counts_to_apply, matrix_of
from scdae.inputs.genes import map_genes
from scdae.inputs.logs import check_logs
from scdae.inputs.options import DataOptions
from scdae.inputs.validate import describe_source
from scdae.matrices.rows import open_rows
from scdae.model import DAE
from scdae.model.options import InPlace, log_layer_size
from scdae.model.purify import check_scale, purified_rows
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.model import fitted_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["purify"]

_WRITER = "scdae.tl.purify"


@spelled
@own_switches
def purify(
    adata: AnnData,
    model: DAE | None = None,
    *,
    strength: float = 1.0,
    n_passes: int = 1,
    n_draws: int = 8,
    keep: float = 1.0,
    fractions: str = "round",
    input_scale: str = "counts",
    scale: str = "log1p",
    depth: Any = None,
    key_added: str = "purified",
    layer: str | None = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> None:
    """Project profiles to what a model has learned, in the scale that a classifier takes.

    Each profile is thinned, encoded and decoded, and the decoder's shares are averaged over the draws: what is given
    back is what cells like this one are expected to show, without the cell's own counts. Perturbations that were made
    to fool a classifier, and noise, mostly lie in directions in which cells do not vary, and are left behind. An
    attacker who knows the purifier attacks through it: it is a filter, not a proof.

    Parameters
    ----------
    adata
        Profiles to purify, cells in rows. `X`, `raw` and other layers stay as they are.
    model
        A fitted :class:`scdae.DAE`, best of cells that were not perturbed. None: one is fitted to the counts in
        `adata`.
    strength
        Share of the projection in the output, 0 to 1; the rest is the profile as it was. 0 gives back the profile.
    n_passes
        Times that a profile is encoded and decoded. More passes move it further towards what is typical.
    n_draws
        Thinned copies whose projections are averaged.
    keep
        Share of the molecules that a thinned copy keeps, above 0; 1 for no thinning, and one draw.
    input_scale
        What the profiles are: ``"counts"``, or ``"log1p"``, log1p of counts per 10,000 over all genes, perhaps
        perturbed. Logs are taken back by expm1 to the depth that the cell had; negative values, which a perturbation
        may leave, become 0.
    scale
        What the output is, so that it fits the classifier: ``"counts"`` (expected counts at the cell's own depth) or
        ``"log1p"`` (expected log1p of counts per 10,000 of a new measurement at that depth).
    depth
        Molecules of each cell before it was normalized, where ``input_scale="log1p"``: a number, an array (n_obs,), or
        the name of a column of `obs`.
    key_added
        Name of the layer. A second call with the same name replaces the output of the first.
    layer
        Layer with the profiles; None for `X`.
    batch_key, covariates
        As in :meth:`scdae.DAE.fit`, where a model is fitted. A model that knows such columns finds them in `obs`.
    seed
        Seed of the thinning, and of the fit where there is one.
    allow_fractional
        Admit counts that are not whole numbers, as an attack in log space leaves them. `fractions` says what becomes of
        them.
    overwrite
        Replace a layer or uns entry of that name that this function did not write.
    **settings
        Settings of the model to fit.

    Returns
    -------
    None
        Written are ``layers[key_added]`` (float32, n_obs x n_vars) and ``uns[key_added]`` (settings and unit of the
        layer). Genes that had no counts in the fit are 0 in the projection; a cell without counts comes back as it is.

    Raises
    ------
    ValueError, TypeError
        The data are not of that scale, an argument does not fit, or there are genes that the model does not know.
        Nothing was trained or written.

    Notes
    -----
    MagNet purified inputs of a classifier by an autoencoder :cite:p:`Meng2017`. Defenses of this kind were broken by
    attacks that take gradients through them :cite:p:`Athalye2018`, and so can be this one.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> model = scdae.DAE(max_epochs=2).fit(adata)
    >>> scdae.tl.purify(adata, model)
    >>> adata.layers["purified"].shape, adata.uns["purified"]["unit"]
    ((80, 50), 'log1p of counts per 10,000')
    """
    check_adata(adata)
    check_settings(purify, settings, seed)
    how = Purification(strength, n_passes, n_draws, keep, fractions).check()
    check_scale(input_scale, "input_scale")
    check_scale(scale, "scale")
    check_name(key_added, "key_added")
    check_free(adata, {"layers": (key_added,)}, key_added, _WRITER, overwrite=overwrite)
    if key_added == layer:
        raise ValueError(f"key_added={key_added!r} is the layer that holds the profiles. Choose another name.")
    if input_scale == "log1p" and model is None:
        raise ValueError(
            "input_scale='log1p' needs model=...: a model is fitted to counts. Fit one with scdae.DAE().fit(...)."
        )
    depths = _depth(adata, depth, input_scale)
    data = DataOptions(layer, None, batch_key, covariates, allow_fractional)
    model = fitted_model(adata, model, settings, seed=seed, data=data)
    values = _purified(adata, model, how, input_scale, scale, depths, layer, allow_fractional, seed)
    with writing_to(adata):
        adata.layers[key_added] = values
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "unit": SCALES[scale],
            "layer": layer or "X",
            "input_scale": input_scale,
            "strength": float(strength),
            "n_passes": int(n_passes),
            "n_draws": int(n_draws),
            "keep": float(keep),
            "fractions": fractions,
            "seed": seed,
        }


def _purified(
    adata: AnnData,
    model: DAE,
    how: Purification,
    input_scale: str,
    scale: str,
    depth: np.ndarray | None,
    layer: str | None,
    allow_fractional: bool,
    seed: int,
) -> np.ndarray:
    fitted = model.fitted_model()
    conditions = fitted.conditions(adata)
    names = names_of_genes(adata.var_names)
    gene_map = map_genes(names, fitted.var_names, fitted.outcome.genes)
    if not gene_map.known.all():
        raise ValueError(
            f"{int((~gene_map.known).sum()):,} gene(s) are unknown to the model, the first being {str(names[~gene_map.known][0])!r}, and "
            "would reach the classifier as they are. Leave them out: adata[:, adata.var_names.isin(model.var_names)]."
        )
    log_layer_size(adata.shape)
    present = gene_map.columns >= 0
    observed = None if present.all() else present
    out, rng = InPlace(adata.n_obs, gene_map.columns, gene_map.known), np.random.default_rng([seed, 7])
    for start, matrix in _blocks(adata, input_scale, layer, allow_fractional):
        stop = start + matrix.shape[0]
        here = None if conditions is None else conditions.take(slice(start, stop))
        deep = None if depth is None else depth[start:stop]
        scales: dict[str, Any] = {"input_scale": input_scale, "scale": scale, "depth": deep}
        taken = gene_map.take(matrix, None)[0]
        for rows, part in purified_rows(fitted.network, taken, how, rng, conditions=here, observed=observed, **scales):
            out.put(slice(start + rows.start, start + rows.stop), part)
    return out.array


def _blocks(
    adata: AnnData, input_scale: str, layer: str | None, allow_fractional: bool
) -> Iterator[tuple[int, sp.csr_matrix]]:
    """First row and checked values of each block."""
    if input_scale == "counts":
        counts = counts_to_apply(adata, layer=layer, allow_fractional=allow_fractional)
        for start, stop in counts.spans:
            yield start, counts.read(start, stop)[0]
        return
    name = describe_source(layer)
    rows = open_rows(matrix_of(adata, layer), name)
    for start, stop in rows.spans():
        yield start, check_logs(rows.read(start, stop), name, start)


def _depth(adata: AnnData, depth: Any, input_scale: str) -> np.ndarray | None:
    """Molecules of each cell, float32 (n_obs,); None where they are counted."""
    if input_scale == "counts":
        if depth is not None:
            raise ValueError(
                "depth= has a meaning for input_scale='log1p' only: counts say how deep a cell is. Leave it out."
            )
        return None
    if depth is None:
        raise ValueError(
            "input_scale='log1p' needs depth=: the molecules that each cell had before it was normalized, as a number, an "
            "array or a column of obs. Where they are not known, the median of the cells that the model was fitted to will do."
        )
    if isinstance(depth, str):
        if depth not in adata.obs.columns:
            raise ValueError(
                f"depth={depth!r} not found in adata.obs. Columns here: {', '.join(map(repr, adata.obs.columns))}."
            )
        depth = adata.obs[depth].to_numpy()
    depth = _by_cell(depth, adata)
    try:
        values = np.asarray(depth, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"depth: {depth!r:.40} is not a number of molecules or an array of such numbers.") from error
    if values.shape not in ((), (adata.n_obs,)):
        raise ValueError(
            f"depth has shape {values.shape}: give one number, or one for each of the {adata.n_obs:,} cells."
        )
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        raise ValueError(
            f"depth must be a positive number of molecules, but {int(wrong.sum()):,} of {values.size:,} are not (the first: "
            f"{values[wrong].flat[0]})."
        )
    return np.broadcast_to(values, (adata.n_obs,))


def _by_cell(depth: Any, adata: AnnData) -> Any:
    """Values of a Series in the order of the cells, by their names; others as they are."""
    if not hasattr(depth, "reindex") or depth.ndim != 1 or depth.index.equals(adata.obs_names):
        return depth
    lacking = [name for name in adata.obs_names if name not in depth.index]
    if lacking or not depth.index.is_unique:
        what = (
            f"lacks {len(lacking):,} cells, the first being {lacking[0]!r}"
            if lacking
            else "has names that are repeated"
        )
        raise ValueError(
            f"depth goes by the names of the cells, and {what}. Index it with adata.obs_names, or pass an array."
        )
    return depth.reindex(adata.obs_names).to_numpy()

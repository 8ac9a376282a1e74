"""Purification as a step of a scikit-learn pipeline."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from scdae.arguments.numbers import integer
from scdae.core.guard.purification import Purification
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.logs import check_logs, one_molecule
from scdae.model import DAE
from scdae.model.purify import check_scale, purified_rows

__all__ = ["Purifier"]


class Purifier(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Projects profiles to what a denoising autoencoder has learned, before a classifier sees them.

    What :func:`scdae.tl.purify` does for AnnData objects, for matrices. The features are genes; those of `fit` and
    those of `transform` have to be the same, in the same order.

    Parameters
    ----------
    model
        A :class:`scdae.DAE` fitted to as many genes as the matrix has columns. None: `fit` trains one on its cells.
    input_scale
        What the matrix holds: ``"counts"``, or ``"log1p"``, log1p of counts per 10,000.
    scale
        What `transform` gives: ``"counts"`` or ``"log1p"``.
    strength, n_passes, n_draws, keep, fractions
        As for :func:`scdae.tl.purify`.
    depth
        Molecules of each cell before it was normalized, where ``input_scale="log1p"``: one number for all. None: the
        median of the cells in `fit`, whose smallest values tell what one molecule is.
    allow_fractional
        Admit counts that are not whole numbers, and their logs.
    settings
        Settings of the :class:`scdae.DAE` that `fit` trains, such as ``{"n_latent": 20}``; None for the defaults.
    random_state
        Seed of training and thinning: a number, a NumPy RandomState, or None for another one each time.

    Attributes
    ----------
    model_
        The fitted :class:`scdae.DAE`.
    depth_
        Molecules of a cell as they are used where ``input_scale="log1p"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    With a whole number as `random_state`, `transform` gives the same values for the same matrix. Thinning (`keep` below
    1) draws for the cells in turn, so that a cell's values depend, by chance alone, on the cells before it.

    Examples
    --------
    >>> import scdae
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> shielded = make_pipeline(scdae.sklearn.Purifier(settings={"max_epochs": 2}), LogisticRegression())
    >>> shielded.fit(adata.X, adata.obs["cell_type"]).predict(adata.X).shape
    (80,)
    """

    def __init__(
        self,
        model: DAE | None = None,
        *,
        input_scale: str = "counts",
        scale: str = "log1p",
        strength: float = 1.0,
        n_passes: int = 1,
        n_draws: int = 8,
        keep: float = 1.0,
        fractions: str = "round",
        depth: float | None = None,
        allow_fractional: bool = False,
        settings: dict[str, Any] | None = None,
        random_state: Any = 0,
    ):
        self.model = model
        self.input_scale = input_scale
        self.scale = scale
        self.strength = strength
        self.n_passes = n_passes
        self.n_draws = n_draws
        self.keep = keep
        self.fractions = fractions
        self.depth = depth
        self.allow_fractional = allow_fractional
        self.settings = settings
        self.random_state = random_state

    @own_switches
    def fit(self, X: Any, y: Any = None) -> Purifier:
        """Train a model on the cells in the rows of `X`, or take the one that was given.

        Parameters
        ----------
        X
            (n_obs, n_vars), dense or sparse: counts or log1p of counts per 10,000, as `input_scale` says.
        y
            Not looked at.

        Returns
        -------
        Purifier
            Itself.

        Raises
        ------
        ValueError
            The values are not of that scale, or an argument does not fit. Logs have to be those of counts: z-scores,
            logs to another base or with noise are refused, the latter unless `allow_fractional`.
        TypeError
            `X` is not a matrix, such as an AnnData: pass its `X`, or use :func:`scdae.tl.purify`.
        """
        self._how()
        check_scale(self.input_scale, "input_scale")
        check_scale(self.scale, "scale")
        _check_depth(self.depth)
        matrix = self._matrix(X, reset=True)
        depth = np.asarray(matrix.sum(axis=1)).ravel()
        if self.input_scale == "log1p":
            matrix, depth = _counts_of_fit(matrix, self.depth)
        depth = depth[depth > 0]
        self.depth_ = float(np.median(depth) if depth.size else 1.0) if self.depth is None else float(self.depth)
        if self.model is None:
            seed = self._seed()
            model = DAE(**{"seed": seed, **(self.settings or {})})
            fractional = self.allow_fractional or self.input_scale == "log1p"
            self.model_ = model.fit(AnnData(matrix), allow_fractional=fractional)
        else:
            self.model_ = _known_model(self.model, self.n_features_in_)
        return self

    @own_switches
    def transform(self, X: Any) -> np.ndarray:
        """Purify the cells in the rows of `X`.

        Parameters
        ----------
        X
            (n_obs, n_vars), as in `fit`. Where ``input_scale="log1p"`` values may be perturbed, negative ones included.

        Returns
        -------
        numpy.ndarray
            float32 (n_obs, n_vars), in the unit that `scale` says.
        """
        check_is_fitted(self)
        how, matrix = self._how(), self._matrix(X, reset=False)
        outcome = self.model_.fitted_model().outcome
        depth = np.full(matrix.shape[0], self.depth_, np.float32)
        rng = np.random.default_rng(self._seed())
        out = np.zeros(matrix.shape, np.float32)
        scales: dict[str, Any] = {"input_scale": self.input_scale, "scale": self.scale, "depth": depth}
        for rows, part in purified_rows(outcome.fitted, _sorted(matrix[:, outcome.genes]), how, rng, **scales):
            out[rows, outcome.genes] = part
        return out

    def _seed(self) -> int:
        state = self.random_state
        state = state if isinstance(state, np.random.RandomState) else integer("random_state", state)
        return int(check_random_state(state).randint(2**31 - 1))

    def _how(self) -> Purification:
        return Purification(self.strength, self.n_passes, self.n_draws, self.keep, self.fractions).check()

    def _matrix(self, X: Any, *, reset: bool) -> sp.csr_matrix:
        """Checked values as float32 CSR."""
        _check_kind(X)
        options: dict[str, Any] = {"ensure_min_samples": 2, "ensure_min_features": 2} if reset else {}
        validated = validate_data(self, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32], **options)
        if self.input_scale == "log1p":
            values = validated.data if sp.issparse(validated) else validated
            if reset and (values < 0).any():
                raise ValueError(
                    f"Negative values in data passed to Purifier: {int((values < 0).sum()):,}, the first "
                    f"{values[values < 0][0]:.6g}. Fit it to log1p of counts per 10,000 of cells that were not perturbed, which are 0 "
                    "or more: z-scores and other centered values are none. transform takes perturbed ones."
                )
            return check_logs(validated, "X", clean=reset and not self.allow_fractional)
        csr = sp.csr_matrix(validated, dtype=np.float32)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        kinds = [("negative", csr.data < 0)]
        if not self.allow_fractional:
            kinds.append(("fractional", csr.data != np.rint(csr.data)))
        for kind, where in kinds:
            if where.any():
                raise ValueError(
                    f"Negative values in data passed to Purifier: {int(where.sum()):,}, the first {csr.data[where][0]:.6g}. "
                    "X has to hold counts; for log-normalized values pass input_scale='log1p'."
                    if kind == "negative"
                    else f"X does not hold counts: {int(where.sum()):,} value(s) are fractional, the first {csr.data[where][0]:.6g}. "
                    "Pass input_scale='log1p' for log-normalized values, or allow_fractional=True for estimated or perturbed counts."
                )
        return csr

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.non_deterministic = self.random_state is None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _check_kind(X: Any) -> None:
    """Raise a TypeError for what is not a matrix, before anything walks through it."""
    if hasattr(X, "obs") and hasattr(X, "var"):
        raise TypeError(
            f"X is a {type(X).__name__}, and Purifier takes a matrix. Pass adata.X or adata.layers[...], or use "
            "scdae.tl.purify(adata, model)."
        )
    if isinstance(X, str | bytes | PathLike | dict) and not sp.issparse(X):
        raise TypeError(
            f"X is a {type(X).__name__}, and Purifier takes a matrix of cells and genes. Read a file first, for example with "
            "anndata.read_h5ad, and pass adata.X."
        )
    if isinstance(X, list | tuple) and X and isinstance(X[0], str | bytes):
        raise TypeError(f"X is a {type(X).__name__} of text, and Purifier takes a matrix of cells and genes.")


def _known_model(model: Any, n_vars: int) -> DAE:
    if not isinstance(model, DAE):
        raise TypeError(
            f"model must be a fitted scdae.DAE, got {type(model).__name__}. Read a saved one with scdae.DAE.load(path)."
        )
    model.fitted_outcome()
    if model.covariates.levels or model.covariates.scales:
        raise ValueError(
            "model= knows batches or covariates, which a matrix does not say. Use scdae.tl.purify with an AnnData."
        )
    if len(model.var_names) != n_vars:
        raise ValueError(f"model= was fitted to {len(model.var_names):,} genes, but X has {n_vars:,} columns.")
    return model


def _check_depth(depth: Any) -> None:
    if depth is None:
        return
    if hasattr(depth, "iloc") or isinstance(depth, np.ndarray):
        raise TypeError(
            f"depth is a {type(depth).__module__.split('.')[0]} {type(depth).__name__} of shape {np.shape(depth)}: one number serves "
            "all cells here, such as the median of their totals. For a depth of each cell use scdae.tl.purify with an AnnData."
        )
    if isinstance(depth, bool) or not isinstance(depth, int | float | np.number) or not 0 < depth < np.inf:
        raise ValueError(f"depth={depth!r}: use a positive number of molecules, one for all cells, or None.")


def _counts_of_fit(logs: sp.csr_matrix, depth: float | None) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts of cells that are log-normalized, and their depths; without `depth` the smallest values say what one molecule is."""
    scaled = logs.copy()
    scaled.data = np.expm1(np.maximum(scaled.data, 0))
    scaled.eliminate_zeros()
    lengths = np.diff(scaled.indptr)
    if depth is None:
        one = one_molecule(scaled)
    else:
        one = np.full(scaled.shape[0], 1e4 / depth, np.float32)
    counts = scaled.data / np.repeat(one, lengths)
    whole = np.rint(counts)
    near = np.abs(counts - whole) <= 1e-3 * np.maximum(
        whole, 1
    )  # logs in float32 do not give whole numbers back exactly
    scaled.data = np.where(near, whole, counts).astype(np.float32)
    scaled.eliminate_zeros()
    return scaled, np.asarray(scaled.sum(axis=1)).ravel()


def _sorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return matrix

"""Settings chosen by evidence: a search for those that predict held-out molecules best."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import __version__
from scdae._log import progress, say_result
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.evaluation.scores import own_log_likelihood
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.options import DataOptions
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.crossval import Job, Split, check_fraction, fit_split, read_job

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["tune"]

_PARTS = 100  # groups of cells, for the standard error of a difference
_CLEAR = 2.0  # standard errors by which settings have to beat the defaults
_WRITER = "scdae.tl.tune"


@spelled
@own_switches
def tune(
    adata: AnnData,
    *,
    n_trials: int = 20,
    time_limit: float | None = None,
    path: str | PathLike[str] | None = None,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    fraction: float = 0.9,
    key_added: str = "scdae_tuning",
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Search noise level, latent size, width, weight decay and likelihood on held-out molecules.

    Most users never need it: the defaults adapt to the data. Every trial fits a model to the same part of the
    molecules and is scored by how likely the others are under its predictive distribution; the first trial is the
    defaults. Other settings are only returned when they beat them by 2 standard errors, since the best of many trials
    is always somewhat lucky.

    Needs Optuna: ``pip install "scdae[tune]"``.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`.
    n_trials
        Number of fits in all, those of an earlier call that is resumed included.
    time_limit
        Seconds after which no trial is started any more; None: no limit.
    path
        File that keeps the trials. A call that was stopped goes on from it; trials of other data, splits or fixed
        settings in the same file are left alone. None: they are kept in memory.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`.
    fraction
        Share of the molecules that the models are shown.
    key_added
        Entry of `uns` for the table of trials.
    seed
        Seed of split, search and fits.
    overwrite
        Replace an entry of that name that this function did not write.
    **settings
        Settings that are fixed and not searched, such as ``likelihood="nb"`` or ``max_epochs=20``.

    Returns
    -------
    dict
        Settings for :func:`scdae.pp.impute` or :class:`scdae.DAE`; the fixed ones alone where the defaults were not
        beaten. ``uns[key_added]`` has the trials (read them with :func:`scdae.get.tuning`) and a verdict in words.

    Raises
    ------
    ImportError
        Optuna is not installed.
    ValueError, TypeError
        The data are not counts or an argument does not fit. Nothing was trained or written.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> best = scdae.tl.tune(adata, n_trials=2, max_epochs=2)
    >>> scdae.pp.impute(adata, **best)
    """
    check_adata(adata)
    check_settings(tune, settings, seed)
    optuna = _optuna()
    check_name(key_added, "key_added")
    check_fraction(fraction)
    if n_trials < 1:
        raise ValueError(f"n_trials={n_trials!r}: ask for one trial at least.")
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: its folder does not exist. Make it first.")
    check_free(adata, {"uns": (key_added,)}, key_added, _WRITER, overwrite=overwrite)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    job = read_job(adata, None, {"seed": seed, **settings}, data)

    space = _space(optuna, settings)
    with _quiet(optuna):
        study, done = _study(optuna, path, _name(job, settings, fraction, seed), seed)
        start = time.monotonic()
        earlier, left = len(done), range(len(done), n_trials)
        for number in progress(left, total=len(left), description="scdae: tuning"):
            if number > earlier and time_limit is not None and time.monotonic() - start > time_limit:
                break
            trial = study.ask(space if done else {})  # the first trial is the defaults
            changed = _settings(trial.params)
            split = fit_split(replace(job, config=replace(job.config, **changed)), fraction, seed)
            trial.set_user_attr("log_likelihood", _by_part(split))
            study.tell(trial, sum(trial.user_attrs["log_likelihood"]))
            done.append(trial)
        results = [(_settings(trial.params), np.array(trial.user_attrs["log_likelihood"])) for trial in done]
    entry, best = _outcome(results)
    with writing_to(adata):
        adata.uns[key_added] = entry
    say_result(entry["verdict"])
    return {**best, **settings}


def _by_part(split: Split) -> list[float]:
    """Log likelihood of the molecules set aside, in nats per molecule, as contributed by groups of cells."""
    fitted = split.model.fitted_outcome().fitted
    of_cell = own_log_likelihood(fitted, split.data, split.held_out, split.ratio)
    group = np.arange(len(of_cell)) % _PARTS
    return (np.bincount(group, weights=of_cell, minlength=_PARTS) / float(split.held_out.sum())).tolist()


def _outcome(results: list[tuple[dict[str, Any], np.ndarray]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entry for `uns`, and the settings to use in place of the defaults: none where these were not clearly beaten."""
    defaults = results[0][1]
    gain = np.array([(parts - defaults).sum() for _, parts in results])
    error = np.array([np.sqrt(_PARTS) * (parts - defaults).std() for _, parts in results])
    top = int(np.argmax(gain))
    clear = gain[top] > _CLEAR * error[top]
    best = results[top][0] if clear else {}
    names = sorted({name for settings, _ in results for name in settings})
    trials = {name: np.array([_text(settings.get(name)) for settings, _ in results], dtype=object) for name in names}
    words = ", ".join(f"{name}={value!r}" for name, value in best.items())
    of_all = f"{len(results)} trial{'s' if len(results) > 1 else ''}"
    verdict = (
        f"Of {of_all} the best predicts held-out molecules better than the defaults, by {gain[top]:.4f} "
        f"(standard error {error[top]:.4f}) nats per molecule: {words}."
        if clear
        else f"The defaults are as good as the best of {of_all}, within the noise of the held-out molecules."
    )
    entry = {
        "written_by": _WRITER,
        "version": __version__,
        "log_likelihood": np.array([parts.sum() for _, parts in results]),
        "gain": gain,
        "gain_se": error,
        "trials": trials,
        "verdict": verdict,
    }
    return entry, best


def _text(value: Any) -> str:
    """Return a setting as a word; the default's is empty."""
    if value is None:
        return ""
    numbers = value if isinstance(value, tuple) else (value,)
    return " to ".join(f"{number:.3g}" if isinstance(number, float) else str(number) for number in numbers)


def _space(optuna: Any, fixed: dict[str, Any]) -> dict[str, Any]:
    """Return what is searched, without the settings that are fixed."""
    number, whole = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    space = {
        "noise_low": number(0.02, 0.4),
        "noise_high": number(0.5, 0.95),
        "n_latent": whole(2, 32, log=True),
        "n_hidden": whole(16, 256, log=True),
        "weight_decay": number(0.25, 8.0, log=True),
        "likelihood": optuna.distributions.CategoricalDistribution(["zinb", "nb"]),
    }
    if fixed.get("corruption", "thinning") != "thinning":
        fixed = {**fixed, "noise": None}  # levels of the others have other scales: give noise= to choose one
    return {name: one for name, one in space.items() if name.split("_low")[0].split("_high")[0] not in fixed}


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Settings of the model from what was searched."""
    settings_of_trial = {name: value for name, value in params.items() if not name.startswith("noise_")}
    if "noise_low" in params:
        settings_of_trial["noise"] = (params["noise_low"], params["noise_high"])
    return settings_of_trial


def _study(optuna: Any, path: str | PathLike[str] | None, name: str, seed: int) -> tuple[Any, list[Any]]:
    """Return the search, and the trials that an earlier call has finished."""
    storage = None
    if path is not None:
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction="maximize")
    done = [trial for trial in study.get_trials(deepcopy=False) if "log_likelihood" in trial.user_attrs]
    study.sampler = optuna.samplers.TPESampler(seed=(seed + len(done)) % 2**32, n_startup_trials=6)
    return study, done


def _name(job: Job, settings: dict[str, Any], fraction: float, seed: int) -> str:
    """Return what makes trials comparable: the same counts, split and fixed settings."""
    matrix = job.counts.matrix
    digest = hashlib.sha256()
    for part in (matrix.data, matrix.indices, matrix.indptr, *(job.conditions or ())):
        digest.update(np.ascontiguousarray(part).tobytes())
    hidden = job.counts.unobserved
    digest.update(
        repr(
            (None if hidden is None else hidden.nnz, job.covariates, sorted(settings.items()), fraction, seed)
        ).encode()
    )
    return f"scdae-{digest.hexdigest()[:16]}"


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna's own messages off, and back to what they were."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError('scdae.tl.tune needs Optuna. Install it with: pip install "scdae[tune]"') from error
    return optuna

import sys

import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.tl import _tune
from scdae.tl._tune import _outcome, _settings

QUICK = {"max_epochs": 3, "batch_size": 64}
SETTLED = {**QUICK, "n_latent": 12, "likelihood": "nb"}  # trials of one size, which one program serves
optuna = pytest.importorskip("optuna")


def test_search_writes_its_trials_and_returns_settings():
    adata, before = small.structured(), optuna.logging.get_verbosity()
    best = scdae.tl.tune(adata, n_trials=3, likelihood="nb", **QUICK)
    table = scdae.get.tuning(adata)
    assert len(table) == 3 and table["gain"].is_monotonic_decreasing
    assert table.loc[0, "gain"] == 0 and table.loc[0, "n_latent"] == "" and table.loc[1, "n_latent"] != ""
    assert "likelihood" not in table and best["likelihood"] == "nb" and best["max_epochs"] == 3
    scdae.DAE(**best)
    assert optuna.logging.get_verbosity() == before


def test_defaults_stay_unless_clearly_beaten():
    rng = np.random.default_rng(0)
    base = rng.normal(-1, 0.1, 100)
    better, lucky = base + 0.01, base + rng.normal(0.0005, 0.01, 100)
    entry, best = _outcome([({}, base), ({"n_latent": 3, "noise": (0.1, 0.5)}, better)])
    assert best == {"n_latent": 3, "noise": (0.1, 0.5)} and "n_latent=3" in entry["verdict"]
    assert entry["gain"][1] == pytest.approx(1.0) and list(entry["trials"]["noise"]) == ["", "0.1 to 0.5"]
    entry, best = _outcome([({}, base), ({"n_latent": 3}, lucky)])
    assert best == {} and "defaults are as good" in entry["verdict"]


def test_a_stopped_search_goes_on(tmp_path, monkeypatch):
    fits = []
    plain = _tune.fit_split

    def counted(*args):
        fits.append(args)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(_tune, "fit_split", counted)
    adata, path = small.structured(), tmp_path / "trials.log"
    with pytest.raises(KeyboardInterrupt):
        scdae.tl.tune(adata, n_trials=4, path=path, **SETTLED)
    assert "scdae_tuning" not in adata.uns
    scdae.tl.tune(adata, n_trials=4, path=path, **SETTLED)
    assert len(fits) == 5 and len(scdae.get.tuning(adata)) == 4
    scdae.tl.tune(adata, n_trials=4, path=path, **SETTLED)
    assert len(fits) == 5
    scdae.tl.tune(adata, n_trials=1, path=path, seed=1, **SETTLED)  # another split: trials of its own
    assert len(fits) == 6 and len(scdae.get.tuning(adata)) == 1


def test_time_limit_stops_after_a_trial():
    adata = small.structured()
    scdae.tl.tune(adata, n_trials=50, time_limit=0.0, **SETTLED)
    assert len(scdae.get.tuning(adata)) == 1


def test_fixed_settings_are_not_searched():
    space = _tune._space(optuna, {"noise": 0.5, "n_hidden": 8})
    assert set(space) == {"n_latent", "weight_decay", "likelihood"}
    assert "noise_low" not in _tune._space(optuna, {"corruption": "gaussian"})
    assert _settings({"noise_low": 0.1, "noise_high": 0.6, "n_latent": 4}) == {"n_latent": 4, "noise": (0.1, 0.6)}


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "scdae\[tune\]"'):
        scdae.tl.tune(small.structured())


def test_arguments_that_do_not_fit(tmp_path):
    adata = small.structured()
    with pytest.raises(ValueError, match="n_trials=0"):
        scdae.tl.tune(adata, n_trials=0)
    with pytest.raises(FileNotFoundError, match="its folder does not exist"):
        scdae.tl.tune(adata, path=tmp_path / "no" / "a.log")
    with pytest.raises(ValueError, match=r"uns\['simulation'\] is there already"):
        scdae.tl.tune(adata, key_added="simulation")
    with pytest.raises(KeyError, match=r"Call scdae\.tl\.tune"):
        scdae.get.tuning(adata)
    assert isinstance(adata.obs, pd.DataFrame)

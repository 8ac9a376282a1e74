"""Integers that come as doubles, as R's numbers do, or as scalars of NumPy: in every public function."""

import importlib
import inspect

import numpy as np
import pandas as pd
import pytest

import scdae
import scdae.model.posterior
import scdae.sklearn
import small
from scdae.arguments.numbers import integer
from scdae.arguments.objects import spelled
from scdae.arguments.selection import positions

WHOLE = (3, 3.0, np.float64(3), np.float32(3), np.int64(3), np.uint8(3), np.array(3.0), np.array(3))
NONE = (3.5, float("nan"), float("inf"), np.float32(0.5), np.array(0.5), True, np.True_, "3", object())


def public():
    """Functions of the API page and methods of its classes that have an argument annotated as an integer."""
    classes = (scdae.DAE, scdae.model.posterior.Posterior)
    modules = [importlib.import_module(f"scdae.{name}") for name in ("pp", "tl", "pl", "get", "metrics", "datasets")]
    functions = {f"{m.__name__}.{name}": getattr(m, name) for m in modules for name in m.__all__}
    for owner in classes:
        functions |= {
            f"{owner.__name__}.{name}": method
            for name, method in inspect.getmembers(owner, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }
    for name, function in functions.items():
        if inspect.isfunction(function):
            for argument in inspect.signature(function).parameters.values():
                if "int" in str(argument.annotation).split(" | ")[0].split("[")[0]:
                    yield pytest.param(function, argument.name, id=f"{name}({argument.name})")


PUBLIC = list(public())


def test_there_are_many():
    assert len(PUBLIC) > 35


@pytest.mark.parametrize(("function", "name"), PUBLIC)
def test_what_is_no_whole_number_is_refused_in_words(function, name):
    arguments = inspect.signature(function).parameters.values()
    needed = sum(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in arguments)
    for value in (1.5, float("nan"), np.float32(0.5), True):
        with pytest.raises(ValueError, match=rf"^{name}=.*: use a whole number"):
            function(*[None] * needed, **{name: value})


def test_integers():
    for value in WHOLE:
        found = integer("n", value)
        assert type(found) is int and found == 3
    for value in NONE:
        with pytest.raises(ValueError, match=r"^n=.*: use a whole number\.$"):
            integer("n", value)
    assert integer("devices", "all", text=True) == "all"
    assert integer("n", None) is None and integer("seed", [1, 2]) == [1, 2]
    with pytest.raises(ValueError, match=r"^seed=-1: use a whole number of 0 or more"):
        integer("seed", -1)


def test_a_function_gets_integers_wherever_they_stand():
    @spelled
    def called(a: "str", n: "int", x: "float" = 0.5, *, m: "int | None" = None, devices: "int | str" = 1, **others):
        return a, n, x, m, devices, others

    found = called("a", 2.0, 3.0, m=np.float64(4), devices="all", other=5.0)
    assert found == ("a", 2, 3.0, 4, "all", {"other": 5.0})
    assert [type(part) for part in found[1:4]] == [int, float, int]
    assert called("a", n=np.int32(2))[:2] == ("a", 2)


def test_doubles_of_r_give_what_integers_give():
    adata = small.structured()
    first = scdae.pp.thin(adata, seed=3)[0].X
    assert (first != scdae.pp.thin(adata, seed=3.0)[0].X).nnz == 0
    model = small.fitted(likelihood="nb")
    for draw in ({"n": 1, "seed": 2}, {"n": 1.0, "seed": np.float32(2)}):
        values = next(scdae.tl.sample(adata, model, **draw))
        np.testing.assert_array_equal(values, next(model.posterior(adata).sample(1, seed=2)))
    config = scdae.DAE(n_latent=8.0, max_epochs=np.float64(3), seed=1.0).config
    assert (config.n_latent, config.max_epochs, config.seed) == (8, 3, 1)
    with pytest.raises(ValueError, match=r"n_latent=8.5: use a whole number"):
        scdae.pp.impute(adata, n_latent=8.5)
    purifier = scdae.sklearn.Purifier(
        small.fitted(likelihood="nb"), n_passes=1.0, n_draws=2.0, random_state=1.0, keep=0.9
    )
    same = scdae.sklearn.Purifier(small.fitted(likelihood="nb"), n_passes=1, n_draws=2, random_state=1, keep=0.9)
    np.testing.assert_array_equal(purifier.fit_transform(adata.X), same.fit_transform(adata.X))
    for odd in ({"n_passes": float("nan")}, {"n_draws": 1.5}, {"random_state": 0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(odd))}=.*: use a whole number"):
            scdae.sklearn.Purifier(small.fitted(likelihood="nb"), **odd).fit_transform(adata.X)


def test_settings_take_numbers_of_numpy():
    before = scdae.settings.max_entries, scdae.settings.kept_fits
    try:
        for value in (np.int64(9), np.float32(9), 9.0):
            scdae.settings.max_entries = scdae.settings.kept_fits = value
            assert scdae.settings.max_entries == scdae.settings.kept_fits == 9
    finally:
        scdae.settings.max_entries, scdae.settings.kept_fits = before


def test_positions_as_doubles():
    index = pd.Index(["a", "b", "c"])
    np.testing.assert_array_equal(positions(index, [2.0, 0.0], "genes"), [2, 0])
    with pytest.raises(ValueError, match=r"genes: 0\.5 is not a position, which are whole numbers"):
        positions(index, [0.0, 0.5], "genes")
    with pytest.raises(ValueError, match=r"genes: 3 is not a position among 3"):
        positions(index, np.float64(3), "genes")

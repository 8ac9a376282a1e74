from typing import get_type_hints

import numpy as np
from flax import nnx

import small
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.batch_alignment import Alignment
from scdae.core.network.parameters import ROLES, Values, having, total_effects, values_of, with_values


def params():
    """Of a network that has every parameter there is."""
    alignment = Alignment(*(np.ones(shape, np.float32) for shape in ((4, 5), (3, 4, 5), ())))
    effects = np.arange(21, dtype=np.float32).reshape(3, 7)
    model = Autoencoder(
        np.full(7, 1 / 7), n_inputs=5, n_hidden=6, n_latent=2, effects=effects, alignment=alignment, with_turns=True
    )
    return nnx.split(model, nnx.Param)[1]


def test_the_table_lists_the_parameters_of_the_network():
    assert set(values_of(params())) == set(ROLES) == set(get_type_hints(Values))


def test_rows_of_conditions_and_columns_of_genes_are_where_the_table_says():
    values = values_of(params())
    assert all(len(values[name]) == 3 for name in having("of_conditions"))
    assert all(values[name].shape[-1] == 7 for name in {*having("unknown"), *having("gated"), *having("fast")})


def test_no_parameter_changes_with_its_values():
    all_of_them = params()
    values = values_of(all_of_them)
    values["loading"][:] = 3
    assert not (values_of(all_of_them)["loading"] == 3).any()
    assert (values_of(with_values(all_of_them, values))["loading"] == 3).all()


def test_effects_are_those_at_the_start_and_what_was_learned():
    values = values_of(params())
    values["batch_effect"] += 1
    np.testing.assert_array_equal(total_effects(values), np.arange(21).reshape(3, 7) + 1)
    assert total_effects({"loading": values["loading"]}) is None


def test_parameters_that_are_not_trained_stay():
    fitted = small.fitted_to_covariates().outcome.fitted
    np.testing.assert_array_equal(values_of(fitted.params)["batch_start"], fitted.axes.effects)

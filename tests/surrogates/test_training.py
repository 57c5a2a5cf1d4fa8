"""The laws of the training loop: it finds the minimum, lowers its rate, ends, is deterministic, and compiles once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpjax.parameters import Real, val
from jaxtyping import Array

from surrogates.training import Shard, _shards, train

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
Y = X @ np.float32([1, -2, 3]) + 0.5


class Line(eqx.Module):
    """A linear model; `fixed` is an array and no parameter."""

    slope: Real
    intercept: Real
    fixed: Array

    @classmethod
    def zero(cls) -> "Line":
        return cls(Real(jnp.zeros(3)), Real(jnp.zeros(())), jnp.ones(2))


class LeastSquares(eqx.Module):
    """The sum of squares; counts how often it is traced."""

    traces: list = eqx.field(static=True, default_factory=list)

    def __call__(self, model, x, y, weight, *, key):
        self.traces.append(x.shape)
        squared = (y - x @ val(model.slope) - val(model.intercept) - 0 * model.fixed.sum()) ** 2
        return weight @ squared, squared


SQUARES = LeastSquares()


def fit(objective=SQUARES, x=X, y=Y, **changes):
    return train(Line.zero(), objective, x, y, **{"key": KEY, "epochs": 400, "learning_rate": 0.1, "batch": 64, **changes})


def test_minimum_is_found():
    trained = fit()
    np.testing.assert_allclose(val(trained.model.slope), [1, -2, 3], atol=1e-2)
    np.testing.assert_allclose(val(trained.model.intercept), 0.5, atol=1e-2)
    assert trained.rmse < 0.01


def test_an_error_that_is_no_number_is_said():
    with pytest.raises(FloatingPointError, match=r"training: the error is (nan|inf) .*; try a learning rate below 1e\+30"):
        fit(learning_rate=1e30, epochs=50)


def test_only_parameters_change():
    np.testing.assert_array_equal(fit().model.fixed, 1)
    frozen = fit(trainable=Line(slope=True, intercept=False, fixed=False)).model
    assert val(frozen.intercept) == 0
    assert jnp.abs(val(frozen.slope)).min() > 0.5


def test_training_ends_when_the_error_stops_falling():
    y = np.random.default_rng(1).normal(size=300).astype(np.float32)
    trained = fit(y=y, epochs=10_000)
    assert trained.epochs < 1000
    np.testing.assert_allclose(val(trained.model.slope), np.linalg.lstsq(np.c_[X, np.ones(300)], y)[0][:3], atol=0.02)


def test_a_key_decides():
    first, again, other = fit(epochs=3), fit(epochs=3), fit(epochs=3, key=jax.random.key(1))
    assert eqx.tree_equal(first.model, again.model)
    assert not eqx.tree_equal(first.model, other.model)


def test_second_fit_compiles_nothing():
    fit(epochs=3)
    traced = len(SQUARES.traces)
    fit(y=2 * Y, x=X + 1, key=jax.random.key(5), epochs=7, learning_rate=0.3, patience=3, decay=0.1)
    fit(y=Y[:290], x=X[:290], epochs=7)  # as many batches
    assert len(SQUARES.traces) == traced


def test_progress_is_reported_and_changes_nothing():
    reports: list[tuple[int, float]] = []
    watched = fit(epochs=25, progress=lambda epoch, rmse: reports.append((epoch, rmse)))
    assert [epoch for epoch, _ in reports] == [10, 20, 25]
    assert reports[-1][1] == watched.rmse < reports[0][1]
    assert eqx.tree_equal(watched.model, fit(epochs=25).model)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 300])
def test_epoch_counts_every_row_once(n):
    batch, total = 64, 1000
    shard = Shard.of(X[:n], Y[:n], batch, total)
    steps = len(shard.y) // batch
    np.testing.assert_allclose(shard.weight @ shard.y / steps, total * Y[:n].mean(), rtol=1e-4)
    assert (shard.weight[n:] == 0).all()


def test_streaming_shows_every_row_before_any_again():
    y = np.arange(1000, dtype=np.float32)
    shards = _shards(y[:, None], y, 64, 128, np.random.default_rng(0))
    seen = np.concatenate([shard.y for shard, _ in zip(shards, range(8), strict=False)])
    assert set(seen[:1000]) == set(y)


def test_streamed_training_reads_a_memory_map_in_parts(tmp_path):
    rows = np.random.default_rng(2).normal(size=(50_000, 3)).astype(np.float32)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=rows.shape)
    trained = fit(x=mapped, y=rows @ np.float32([1, -2, 3]) + 0.5, resident=1 << 12, epochs=3)
    np.testing.assert_allclose(val(trained.model.slope), [1, -2, 3], atol=0.02)
    assert trained.epochs <= 3 * 13

"""What the tests of all templates share about spaces: the papers' knobs, and a predicate that runs anywhere."""

import jax
import numpy as np

SPLITS = ("tile_f", "tile_y", "tile_x", "tile_rc", "tile_ry", "tile_rx")
OPTIONS = ("auto_unroll_max_step", "unroll_explicit")


def has_the_papers_knobs(knobs, *, depthwise: bool = False):
    """The knobs and feature columns of Sun et al. (ICCV 2021, appendix)."""
    assert knobs.names == (SPLITS[:3] if depthwise else SPLITS) + OPTIONS
    assert knobs.knobs[-2].values == ((0, 256, 1500) if depthwise else (0, 512, 1500))
    assert len(knobs.feature_names) == (14 if depthwise else 20)


def is_the_same_under_jit(knobs, rows=None):
    """The predicate admits some and refuses some configurations, the same ones on the host and inside jit."""
    rows = np.random.default_rng(0).integers(0, knobs.shape, (1 << 16, len(knobs.shape))) if rows is None else rows
    on_host = knobs.valid(rows)
    assert 0 < on_host.sum() < len(rows)
    np.testing.assert_array_equal(jax.jit(knobs.valid)(rows), on_host)


def keeps_its_indices(knobs, larger):
    """Every index of a space means the same configuration in its enlarged one, which may be stricter but not laxer."""
    rows = np.random.default_rng(0).integers(0, knobs.shape, (1 << 16, len(knobs.shape)))
    rows = np.concatenate([rows, knobs.sample(jax.random.key(0), 8)])
    same = larger.from_index(knobs.to_index(rows))
    assert larger.valid(same).any()
    assert (knobs.valid(rows) | ~larger.valid(same)).all()
    for row, other in zip(rows[-8:], same[-8:], strict=True):
        config = knobs.to_config(row)
        assert larger.to_config(other).items() >= config.items()
        np.testing.assert_array_equal(larger.from_config(config), other)

"""Spaces of schedules: products of knobs, counted as AutoTVM counts them (Chen et al., NeurIPS 2018).

The layer spaces of Sun et al. (ICCV 2021, appendix, tables 1 to 5) are such products. A space is not
enumerated unless it is small; indices are Python integers because spaces pass 2^63.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from search import sampling
from search.knobs import Config, Knob, Option, Split
from search.neighbourhood import lattice_ball
from search.pool import Pool

Arrays = Array | np.ndarray
Choice = Mapping[str, Any]
"""What n configurations mean, `{knob: (n, ways) factors or (n,) values}`."""

Predicate = Callable[[Choice], Any]
"""Which of n configurations are valid, `Bool[Array, "n"]`."""

Part = tuple[Sequence[int], ...]
"""A product inside a space: the options of each knob that it has."""


class KnobSpace(eqx.Module):
    """A finite product of knobs, minus what a predicate refuses.

    A configuration travels as a row of option numbers, `Int[Array, "knobs"]`. `valid` and `features` accept NumPy arrays and
    JAX arrays (traced ones too) and answer in kind; the rest works on the host.

    **Arguments:**

    - `knobs`: the knobs in AutoTVM's order, the first varying fastest in the index.
    - `predicate`: takes `{name: factors}`, each of shape `(n, ways)` for a split and `(n,)` for an option, and answers which of
      the n configurations are valid. Written with operators, it runs under NumPy and under jit alike. None: all are valid.
    - `encoding`: how `features` shows a knob. "log2" gives log2 of factors and log2(1 + value) of options, "raw" the numbers.
    - `pool`: the configurations the space is confined to; made by `confine`.
    - `parts`: disjoint products inside the space that have all its valid configurations, to draw from in turns: one for each
      algorithm, say, however few configurations it has. None: all configurations are drawn alike.
    - `shares`: how many turns each part has in a round; one each if not given.

    **Raises:** `ValueError` for repeated names, an unknown encoding, parts of other knobs or none, or shares that are not one a
    part.
    """

    knobs: tuple[Knob, ...] = eqx.field(static=True)
    predicate: Predicate | None
    encoding: str = eqx.field(static=True)
    pool: Pool | None
    parts: tuple[Part, ...] | None = eqx.field(static=True)
    shares: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        knobs: Sequence[Knob],
        predicate: Predicate | None = None,
        *,
        encoding: str = "log2",
        pool: Pool | None = None,
        parts: Sequence[Part] | None = None,
        shares: Sequence[int] | None = None,
    ) -> None:
        self.knobs = tuple(knobs)
        self.predicate = predicate
        self.encoding = encoding
        self.pool = pool
        self.parts = None if parts is None else tuple(tuple(tuple(map(int, options)) for options in part) for part in parts)
        self.shares = (1,) * len(self.parts or ()) if shares is None else tuple(map(int, shares))
        if not self.knobs or len(set(self.names)) != len(self.knobs):
            raise ValueError(f"knobs: the names {list(self.names)} must be distinct and at least one.")
        if encoding not in ("log2", "raw"):
            raise ValueError(f"encoding: {encoding!r} is not one of 'log2' and 'raw'.")
        if any(len(part) != len(self.knobs) for part in self.parts or ()):
            raise ValueError(f"parts: each must have the options of all {len(self.knobs)} knobs.")
        if self.parts == ():
            raise ValueError("parts: there must be one at least; None draws all configurations alike.")
        if len(self.shares) != len(self.parts or ()) or min(self.shares, default=1) < 1:
            raise ValueError(
                f"shares: {list(self.shares)} must be a positive number for each of {len(self.parts or ())} parts."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The knobs' names in order."""
        return tuple(knob.name for knob in self.knobs)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many options each knob has."""
        return tuple(len(knob.table) for knob in self.knobs)

    @property
    def product(self) -> int:
        """The number of configurations of the whole product: indices lie below it."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """The number of configurations, valid or not: of the pool if the space is confined, else of the product."""
        return self.product if self.pool is None else len(self.pool)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of every feature column: a split has one for each factor."""
        return tuple(
            f"{knob.name}[{axis}]" if isinstance(knob, Split) else knob.name
            for knob in self.knobs
            for axis in range(knob.table.shape[1])
        )

    def __repr__(self) -> str:
        confined = "" if self.pool is None else f", confined to {len(self.pool)}"
        knobs = ", ".join(f"{name} {length}" for name, length in zip(self.names, self.shape, strict=True))
        return f"KnobSpace({self.product} configurations: {knobs}{confined})"

    def choice(self, knobs: Int[Arrays, "n knobs"]) -> Choice:
        """Look up what the options mean: `{name: (n, ways)}` for splits, `{name: (n,)}` for options."""
        xp = _namespace(knobs)
        looked_up = {}
        for column, knob in enumerate(self.knobs):
            values = xp.asarray(knob.table)[knobs[..., column]]
            looked_up[knob.name] = values if isinstance(knob, Split) else values[..., 0]
        return looked_up

    def valid(self, knobs: Int[Arrays, "n knobs"]) -> Bool[Arrays, " n"]:
        """Tell which configurations the predicate admits and, if the space is confined, the pool holds."""
        xp = _namespace(knobs)
        admitted = xp.ones(knobs.shape[:-1], bool)
        if self.predicate is not None:
            admitted = admitted & (self.predicate(self.choice(knobs)) != 0)
        if self.pool is not None:
            admitted = admitted & self.pool.contains(knobs)
        return admitted

    def features(self, knobs: Int[Arrays, "n knobs"]) -> Float[Arrays, "n features"]:
        """Gather the feature columns of each configuration, in the order of `feature_names`, float32."""
        xp = _namespace(knobs)
        tables = (xp.asarray(_feature_table(knob, self.encoding)) for knob in self.knobs)
        return xp.concatenate([table[knobs[..., column]] for column, table in enumerate(tables)], axis=-1)

    def to_index(self, knobs: Int[Arrays, "*n knobs"]) -> Any:
        """Number a configuration as AutoTVM does: mixed radix, the first knob fastest. A row gives an int, rows a list."""
        rows = np.asarray(knobs)
        if rows.shape[-1:] != (len(self.knobs),):
            raise ValueError(f"knobs: shape {rows.shape} must end in {len(self.knobs)}, one option a knob.")
        if ((rows < 0) | (rows >= np.array(self.shape))).any():
            raise ValueError(f"knobs: every option must lie in the ranges {list(self.shape)}.")
        index = self.numbers(rows)
        return index.tolist() if rows.ndim > 1 else int(index)

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Indices of rows as an array of int64, or of Python integers where the product passes 2^63."""
        dtype = np.int64 if self.product < 1 << 63 else object
        strides = [1]
        for length in self.shape[:-1]:
            strides.append(strides[-1] * length)
        return np.asarray(rows).astype(dtype) @ np.array(strides, dtype)

    def from_index(self, index: Any) -> Int[np.ndarray, "*n knobs"]:
        """The configuration with this number, or the rows of several numbers; the inverse of `to_index`."""
        dtype = np.int64 if self.product < 1 << 63 else object
        try:
            rest = np.array(index, dtype)
        except OverflowError:
            rest = np.array([-1])
        if rest.size and (rest.min() < 0 or rest.max() >= self.product):
            raise ValueError(f"index: {index} is outside 0 .. {self.product - 1}, the numbers of this space.")
        columns = []
        for length in self.shape:
            columns.append(np.asarray(rest % length, np.int32))
            rest = rest // length
        return np.stack(columns, axis=-1)

    def to_config(self, knobs: Int[Arrays, " knobs"]) -> Config:
        """Write a configuration as `{knob: factors or value}`."""
        return {knob.name: knob.value(int(option)) for knob, option in zip(self.knobs, knobs, strict=True)}

    def from_config(self, config: Mapping[str, Any]) -> Int[np.ndarray, " knobs"]:
        """Read `{knob: factors or value}`, matched by name; a first factor of -1 means what remains.

        An option with an `absent` value need not be named.

        **Raises:** `ValueError` for a missing or foreign knob, or a value the knob does not have.
        """
        absent = ((knob.name, knob.absent) for knob in self.knobs if isinstance(knob, Option))
        config = {name: value for name, value in absent if value is not None} | dict(config)
        if set(config) != set(self.names):
            raise ValueError(f"config: its knobs {sorted(config)} are not this space's {sorted(self.names)}.")
        return np.array([knob.option(config[knob.name]) for knob in self.knobs], np.int32)

    def confine(self, knobs: Int[Arrays, "n knobs"]) -> KnobSpace:
        """Restrict the space to the given configurations: a recorded pool. Repeats count once.

        A confined space is confined further, to what both hold. It is drawn from uniformly, whatever the parts were.
        """
        rows = self.from_index(list(set(self.to_index(np.atleast_2d(np.asarray(knobs))))))
        if self.pool is not None:
            rows = rows[self.pool.contains(rows)]
        return KnobSpace(self.knobs, self.predicate, encoding=self.encoding, pool=Pool(rows, self.shape))

    def sample(self, key: PRNGKeyArray, n: int, *, exclude: Int[Arrays, "m knobs"] | None = None) -> Int[np.ndarray, "n knobs"]:
        """Draw valid configurations without repeats: uniformly, or uniformly from each of `parts` in turns.

        **Arguments:**

        - `key`: a JAX random key; the same key gives the same configurations.
        - `n`: how many.
        - `exclude`: configurations not to draw, say those measured already.

        **Returns:** n rows, or fewer where the space has no more. Spaces beyond 2^24 configurations are drawn by rejection, and
        counted as having no more after 2^24 draws without a new one; so are parts.
        """
        if n < 0:
            raise ValueError(f"n: {n} must not be negative.")
        generator = _generator(key)
        excluded = np.sort(self.numbers(np.asarray(exclude))) if exclude is not None and len(exclude) else None
        if self.pool is not None:
            return sampling.shuffled(self, self.pool.rows[self.valid(self.pool.rows)], generator, n, excluded)
        if self.parts is None:
            return sampling.draw(self, tuple(map(range, self.shape)), generator, n, excluded)
        return sampling.draw_in_turns(self, generator, n, excluded)

    def by_part(self) -> list[KnobSpace]:
        """The same space once for each of its parts, drawn from that part only; itself if it has none."""
        if self.parts is None or self.pool is not None:
            return [self]
        return [KnobSpace(self.knobs, self.predicate, encoding=self.encoding, parts=[part]) for part in self.parts]

    def neighbours(
        self,
        knobs: Int[Arrays, " knobs"],
        radius: float,
        *,
        limit: int | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Int[np.ndarray, "m knobs"]:
        """Find the valid configurations within a Euclidean distance in option numbers, the centre left out.

        This is the neighbourhood of BAO (Sun et al., DATE 2021, Algorithm 4). Where the ball (of a confined space: its part in
        the pool) holds more than `limit` points, so many are drawn uniformly with `key`, and the valid ones kept.

        **Raises:** `ValueError` if `limit` is given without `key`.
        """
        if limit is not None and key is None:
            raise ValueError("key: needed with `limit`, to draw the neighbours.")
        centre = np.asarray(knobs)
        generator = None if key is None else _generator(key)
        if self.pool is not None:
            distance = ((self.pool.rows - centre) ** 2).sum(axis=1)
            near = self.pool.rows[(distance > 0) & (distance <= radius * radius + 1e-9)]
            near = near[self.valid(near)]
            if limit is None or len(near) <= limit:
                return near
            assert generator is not None
            return near[np.sort(generator.choice(len(near), size=limit, replace=False))]
        offsets = lattice_ball(-centre, np.array(self.shape) - 1 - centre, radius, limit=limit, generator=generator)
        near = (centre + offsets).astype(np.int32)
        return near[self.valid(near)]


@lru_cache(maxsize=4096)
def _feature_table(knob: Knob, encoding: str) -> Float[np.ndarray, "options columns"]:
    values = knob.table.astype(np.float64)
    if encoding == "log2":
        values = np.log2(values) if isinstance(knob, Split) else np.sign(values) * np.log2(1 + np.abs(values))
    table = values.astype(np.float32)
    table.flags.writeable = False
    return table


def _generator(key: PRNGKeyArray) -> np.random.Generator:
    """A NumPy generator seeded by a JAX key: host-side draws of any size compile nothing."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes(), "little")))


def _namespace(array: Any) -> Any:
    return jax.numpy if isinstance(array, jax.Array) else np

"""Saved surrogates: one zip file of a JSON description and NumPy arrays, from which nothing is executed.

A module of the allow-list is written as its class's name and its fields, recursively; reading makes the object without running
its constructor. A field is an array, a number, a string, None, a slice, a tuple, a list, a dictionary or another such module.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from surrogates.base import Surrogate
from surrogates.kernels import ENGINE

FORMAT = "gausstune surrogate"
VERSION = 1
DESCRIPTION = "surrogate.json"

SCALARS = (bool, int, float, str, type(None))

CONTAINERS: dict[str, type[tuple] | type[list]] = {"tuple": tuple, "list": list}

PACKAGES = ("surrogates", "gpjax.parameters", "gpjax.kernels", "paramax")
"""Where a class may be defined, or in a module below."""

SHARED = {"surrogates.kernels.ENGINE": ENGINE}
"""Objects compared by identity, which a loaded model must hold and not a copy of them."""


def save(path: str | os.PathLike[str], model: Surrogate, *, features: Sequence[str]) -> None:
    """Write a surrogate to a file, whole or not at all.

    **Arguments:**

    - `path`: the file, which is replaced if it exists.
    - `model`: any surrogate, fitted or not.
    - `features`: the names of the columns it was fitted on, `KnobSpace.feature_names` for example.

    **Raises:** `TypeError` naming a field that the format cannot hold.
    """
    path = Path(path)
    arrays: list[np.ndarray] = []
    description = {
        "format": FORMAT,
        "version": VERSION,
        "features": [str(name) for name in features],
        "model": _described(model, type(model).__name__, arrays),
    }
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unfinished = Path(folder, path.name)  # in the same folder, so that renaming it is one step
        with unfinished.open("xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                # A member of fixed date: the same model gives the same bytes.
                archive.writestr(zipfile.ZipInfo(DESCRIPTION), json.dumps(description, indent=1))
                for number, array in enumerate(arrays):
                    archive.writestr(zipfile.ZipInfo(_member(number)), _bytes(array))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def load(path: str | os.PathLike[str], *, features: Sequence[str] | None = None) -> Surrogate:
    """Read a surrogate that predicts, bit for bit, what the saved one did.

    **Arguments:**

    - `path`: a file that `save` wrote.
    - `features`: the names of the columns it is to be used with; None accepts any.

    **Raises:** `ValueError` naming the file if it is damaged, of a later version or another kind, or meant for other features;
    `FileNotFoundError` if it is not there.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            description = json.loads(archive.read(DESCRIPTION))
            _check(description, features)
            model = _restored(description["model"], archive)
    except _Refused as refusal:
        raise ValueError(f"{path}: {refusal}") from None
    except Exception as error:  # whatever a reader of zip, JSON, NumPy or XGBoost trips over in a damaged file
        raise ValueError(
            f"{path}: damaged, or not a saved surrogate ({type(error).__name__}: {error}); fit and save the model again."
        ) from error
    if not isinstance(model, Surrogate):
        raise ValueError(f"{path}: holds a {type(model).__name__}, which is no surrogate; save a model with `surrogates.save`.")
    return model


class _Refused(ValueError):
    """A file that can be read and is not accepted; its message says what is wrong and the way out."""


def _check(description: Mapping[str, Any], features: Sequence[str] | None) -> None:
    if description["format"] != FORMAT:
        raise _Refused(f"its format is {description['format']!r}, not {FORMAT!r}; give a file that `surrogates.save` wrote.")
    if description["version"] > VERSION:
        raise _Refused(f"its version {description['version']} is newer than {VERSION}; update gausstune.")
    if features is not None and description["features"] != list(features):
        raise _Refused(f"made for the features {description['features']}, not {list(features)}; fit a model on these.")


def _described(value: Any, place: str, arrays: list[np.ndarray]) -> Any:
    """The value as JSON: scalars as they are, all else as an object of its kind; arrays are put aside."""
    described: Any
    if type(value) in SCALARS:
        described = value
    elif names := [name for name, shared in SHARED.items() if value is shared]:
        described = {"shared": names[0]}
    elif isinstance(value, eqx.Module) and _class(_name(type(value))) is not None:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        fields = {name: _described(field, f"{place}.{name}", arrays) for name, field in fields.items()}
        described = {"class": _name(type(value)), "fields": fields}
    elif isinstance(value, (jax.Array, np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        described = {"array": len(arrays), "dtype": str(value.dtype), "shape": list(value.shape), "kind": _array_kind(value)}
        arrays.append(np.asarray(value))
    elif type(value) is slice:
        described = {"slice": [value.start, value.stop, value.step]}
    elif type(value) in CONTAINERS.values():
        described = {type(value).__name__: [_described(item, f"{place}[{i}]", arrays) for i, item in enumerate(value)]}
    elif type(value) is dict and all(type(key) in (int, str) for key in value):
        described = {"dict": [[key, _described(item, f"{place}[{key!r}]", arrays)] for key, item in value.items()]}
    else:
        raise TypeError(
            f"{place}: a {type(value).__qualname__} cannot be saved; keep arrays, numbers, strings and modules of them."
        )
    return described


def _restored(described: Any, archive: zipfile.ZipFile) -> Any:
    """The value that was described."""
    value: Any
    match described:
        case {"class": name, "fields": fields}:
            value = _module(name, {field: _restored(content, archive) for field, content in fields.items()})
        case {"array": number, "dtype": dtype, "shape": shape, "kind": kind}:
            stored = np.load(io.BytesIO(archive.read(_member(number))), allow_pickle=False)
            if str(stored.dtype) != dtype or list(stored.shape) != shape:
                raise _Refused(f"array {number} is {stored.dtype}{list(stored.shape)}, not {dtype}{shape}; fit and save again.")
            value = _array(stored, kind)
        case {"shared": name}:
            value = SHARED[name]
        case {"slice": bounds}:
            value = slice(*bounds)
        case {"tuple": items} | {"list": items}:
            value = CONTAINERS[next(iter(described))](_restored(item, archive) for item in items)
        case {"dict": items}:
            value = {key: _restored(item, archive) for key, item in items}
        case None | bool() | int() | float() | str():
            value = described
        case _:
            raise _Refused(f"{described!r} describes nothing that version {VERSION} knows; fit and save the model again.")
    return value


def _module(name: str, fields: dict[str, Any]) -> eqx.Module:
    """An instance with these fields, made without its constructor, which may take other arguments or compute."""
    kind = _class(name)
    if kind is None:
        raise _Refused(f"the class {name!r} is none that a surrogate is made of; do not trust this file, or update gausstune.")
    expected = {field.name for field in dataclasses.fields(kind)}
    if set(fields) != expected:
        raise _Refused(f"a {name} has the fields {sorted(fields)}, here {sorted(expected)}; fit and save the model again.")
    module = object.__new__(kind)
    for field, value in fields.items():
        object.__setattr__(module, field, value)
    return module


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> type[eqx.Module] | None:
    """The class of this name; None unless it is defined in an allowed module and one of Equinox's."""
    module, _, qualified = name.partition(":")
    if not any(module == package or module.startswith(f"{package}.") for package in PACKAGES):
        return None
    kind = getattr(importlib.import_module(module), qualified, None)
    return kind if isinstance(kind, type) and issubclass(kind, eqx.Module) and _name(kind) == name else None


def _member(number: int) -> str:
    return f"arrays/{number}.npy"


def _bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array_kind(value: Any) -> str:
    """How an array is held: a weak type decides which compiled code a jitted function finds."""
    if isinstance(value, jax.Array):
        return "weak" if value.weak_type else "jax"
    return "numpy" if isinstance(value, np.ndarray) else "scalar"


def _array(array: np.ndarray, kind: str) -> Any:
    match kind:
        case "numpy":
            return array
        case "scalar":
            return array[()]
        case "jax" | "weak":
            restored = jnp.asarray(array)
            if restored.dtype != array.dtype:
                raise _Refused(f"made with 64-bit arrays ({array.dtype}); set jax_enable_x64 before loading it.")
            # A Python number is the only thing that JAX makes weak arrays of.
            return restored if kind == "jax" else jnp.full(array.shape, array.dtype.type(0).item()).at[...].set(restored)
    raise _Refused(f"an array of the kind {kind!r} is unknown; update gausstune.")

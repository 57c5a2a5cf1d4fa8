"""A network in: Relax with its weights as constants, whatever file or framework it comes from."""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_bridge import models


@dataclass(frozen=True, eq=False)
class Network:
    """A network as Relax.

    - `module`: an IRModule with one Relax function, "main", of static shapes; its weights are constants.
    - `name`: the network's name in logs and reports.
    - `source`: the name or path that it was read by; empty if it was read from something else.
    - `shapes`: the shapes that its open inputs were given.
    - `layout`: that of its convolutions, "chosen" if each has its own; empty as they came.
    """

    module: Any
    name: str
    source: str = ""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    layout: str = ""

    @property
    def inputs(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Name, shape and dtype of each input, in the order in which "main" takes them."""
        return tuple(
            (each.name, tuple(int(extent) for extent in each.ty.shape), str(each.ty.dtype))
            for each in self.module["main"].params
        )


def load_network(
    source: Any, *, name: str | None = None, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None
) -> Network:
    """Read a network.

    **Arguments:**

    - `source`: one of

        - a name of `tvm_bridge.models.MODELS`, such as "resnet-18": an image of 224x224, random weights; for other sizes give
          what its `build` returns;
        - the path of an ONNX file (.onnx; the extra `onnx`), of StableHLO's text (.mlir), or of a Relax IRModule as TVM's JSON
          (.json, written by `tvm.ir.save_json`);
        - a `torch.export.ExportedProgram` (the extra `torch`), but no path of a saved one: reading such a file runs what it
          says, which is for `torch.export.load` to do, and for its user to trust;
        - a `jax.export.Exported` of a function that holds its weights, or StableHLO's text;
        - a Relax IRModule with one Relax function.
      ONNX and torch.export go through TVM's importers. StableHLO does not: TVM's fails with today's JAX and misreads pooling
      and groups, so `tvm_bridge.network.stablehlo` reads it.
    - `name`: the network's name; its own or its file's if not given.
    - `seed`: of the random weights of a network of `MODELS`.
    - `shapes`: the shapes of inputs by name, for a network that leaves them open.

    **Raises:** `ValueError` if the source is none of these, cannot be imported, leaves shapes open that `shapes` does not give,
    or takes its weights as inputs; `ImportError` if an extra is missing, which it names.
    """
    own_name, read = _reader(source, shapes or {}, seed)
    module = _static(_bound(_only_function(read())), shapes or {})
    path = str(source) if isinstance(source, str | Path) and "func.func" not in str(source) else ""
    return Network(_tidied(module), name or own_name, path, dict(shapes or {}))


def _reader(source: Any, shapes: Mapping[str, Sequence[int]], seed: int) -> tuple[str, Callable[[], Any]]:
    """The network's own name, and what imports it."""
    import tvm

    if isinstance(source, tvm.IRModule):
        return "network", lambda: source
    if isinstance(source, str) and source in models.MODELS:
        return source, lambda: models.build(source, seed=seed)
    if isinstance(source, str) and "func.func" in source:
        return "network", lambda: _imported("the text", _stablehlo, source)
    if isinstance(source, str | Path):
        path = Path(source)
        return path.stem, lambda: _from_file(path, shapes)
    if _is("torch.export", "ExportedProgram", source):
        return "network", lambda: _imported("the program", _torch, source)
    if _is("jax.export", "Exported", source):
        return source.fun_name, lambda: _imported(source.fun_name, _exported, source)
    raise ValueError(
        f"source: {type(source).__name__} is not a network; give the name of a network, the path of a file ending in "
        f"{' or '.join(READERS)}, a torch.export.ExportedProgram, a jax.export.Exported, StableHLO's text or a Relax IRModule."
    )


def _is(module: str, kind: str, source: Any) -> bool:
    """Whether the source is an instance of a class of a module; if it is, the module has been imported."""
    return module in sys.modules and isinstance(source, getattr(sys.modules[module], kind))


def _from_file(path: Path, shapes: Mapping[str, Sequence[int]]) -> Any:
    suffixes = " or ".join(READERS)
    if path.suffix == ".pt2":
        raise ValueError(
            f"source: reading {path} would run whatever Python its pickles hold; if you trust it, give "
            f"torch.export.load({str(path)!r}) instead of the path."
        )
    if path.suffix in READERS:
        if not path.is_file():
            raise ValueError(f"source: there is no file {path}.")
        return _imported(str(path), READERS[path.suffix], path, shapes)
    if path.exists():
        raise ValueError(f"source: {path} ends in none of {suffixes}, which are the files that can be read.")
    close = difflib.get_close_matches(str(path), models.MODELS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"source: {str(path)!r} is not one of {', '.join(models.MODELS)}, nor a file ending in {suffixes}.{hint}")


def _imported(what: str, reader: Callable[..., Any], *arguments: Any) -> Any:
    """What a reader returns; importers fail with errors of every kind, and all mean that the network cannot be imported."""
    try:
        return reader(*arguments)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"source: {what} cannot be imported: {error}") from error


def _onnx(path: Path, shapes: Mapping[str, Sequence[int]]) -> Any:
    onnx = _required("onnx", "onnx")
    from tvm.relax.frontend.onnx import from_onnx

    model, given = onnx.load(path), {name: list(shape) for name, shape in shapes.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input .* has unknown")  # open shapes are refused below, with what to do
        return from_onnx(model, shape_dict=given, sanitize_input_names=False)


def _torch(program: Any) -> Any:
    _required("torch", "torch")
    from tvm.relax.frontend.torch import from_exported_program

    return from_exported_program(program, unwrap_unit_return_tuple=True)


def _exported(exported: Any) -> Any:
    from tvm_bridge.network import stablehlo

    return stablehlo.from_artifact(exported.mlir_module_serialized)


def _stablehlo(text: str) -> Any:
    from tvm_bridge.network import stablehlo

    return stablehlo.from_text(text)


def _json(text: str) -> Any:
    import tvm
    from tvm import relax  # noqa: F401 - so that TVM knows the nodes of Relax

    module = tvm.ir.load_json(text)
    if not isinstance(module, tvm.IRModule):
        raise ValueError(f"it is a {type(module).__name__} and not an IRModule")
    return module


READERS: dict[str, Callable[[Path, Mapping[str, Sequence[int]]], Any]] = {
    ".onnx": _onnx,
    ".mlir": lambda path, shapes: _stablehlo(path.read_text()),
    ".json": lambda path, shapes: _json(path.read_text()),
}
"""What reads a file, by its suffix."""


def _required(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"source: {package} is not installed; install the extra: pip install gausstune[{extra}]") from error


def _only_function(module: Any) -> Any:
    """The module with its one Relax function as "main"."""
    from tvm import IRModule, relax

    found = {variable.name_hint: function for variable, function in module.functions_items()}
    names = [name for name, function in found.items() if isinstance(function, relax.Function)]
    if len(names) != 1:
        listed = f"the Relax functions {', '.join(sorted(names))}" if names else "no Relax function"
        raise ValueError(f"source: the module has {listed}; it must have one, from inputs to outputs.")
    if names == ["main"]:
        return module
    return IRModule(found | {"main": found.pop(names[0]).with_attr("global_symbol", "main")})


def _bound(module: Any) -> Any:
    """The module with the weights that an importer left beside it as constants.

    **Raises:** `ValueError` if "main" takes weights and they are nowhere.
    """
    from tvm import relax
    from tvm.relax.frontend import detach_params

    module, detached = detach_params(module)
    weights = detached.get("main", [])
    parameters = module["main"].params
    inputs = int((module["main"].attrs or {}).get("num_input", len(parameters) - len(weights)))
    if inputs + len(weights) != len(parameters):
        raise ValueError(
            f"source: the module takes {len(parameters) - inputs} weights as inputs; bind them to their values with "
            "relax.transform.BindParams, or import it with its weights as constants."
        )
    return relax.transform.BindParams("main", dict(zip(parameters[inputs:], weights, strict=True)))(module)


def _static(module: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The module with the open extents of its inputs filled in.

    **Raises:** `ValueError` if `shapes` has another input or does not fit one, or leaves an extent open.
    """
    from tvm import relax, tirx

    declared = {each.name: _declared(each) for each in module["main"].params}
    if unknown := shapes.keys() - declared.keys():
        raise ValueError(f"shapes: {', '.join(sorted(unknown))} not among the inputs, which are {', '.join(declared)}.")
    extents: dict[Any, int] = {}
    for name, shape in shapes.items():
        fits = len(shape) == len(declared[name]) and all(
            wanted == (extents.setdefault(extent, wanted) if isinstance(extent, tirx.Var) else extent)
            for wanted, extent in zip(shape, declared[name], strict=True)
        )
        if not fits:
            raise ValueError(f"shapes: {_written(shape)} does not fit {name}, which is {_written(declared[name])}.")
    if extents:
        module = relax.transform.BindSymbolicVars(extents, "main")(module)
    for each in module["main"].params:
        shape = _declared(each)
        if not all(isinstance(extent, int) for extent in shape):
            example = [extent if isinstance(extent, int) else 1 for extent in shape]
            raise ValueError(
                f"source: its input {each.name} has the open shape {_written(shape)}; say what it shall be, for example "
                f"shapes={{{each.name!r}: {_written(example)}}}."
            )
    return module


def _tidied(module: Any) -> Any:
    """The module without what importers write that no output needs."""
    from tvm import ir, relax

    return ir.transform.Sequential([relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()])(module)


def _declared(parameter: Any) -> list[Any]:
    """The extents of an input: numbers, or TVM's expressions where they are open."""
    from tvm import relax, tirx

    if not isinstance(parameter.ty, relax.TensorType) or parameter.ty.shape is None:
        raise ValueError(f"source: its input {parameter.name} is no tensor of known rank but {parameter.ty}.")
    return [int(extent) if isinstance(extent, tirx.IntImm) else extent for extent in parameter.ty.shape]


def _written(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"

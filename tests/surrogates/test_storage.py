"""The laws of saved surrogates: what is read predicts the same bits, or a sentence says why not; nothing is ever executed."""

import json
import os
import zipfile
from dataclasses import replace
from io import BytesIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import surrogates
from surrogates.base import Surrogate
from surrogates.storage import DESCRIPTION, VERSION, load, save

KEY = jax.random.key(0)
FEATURES = ("tile_f", "tile_y", "unroll")
X = np.random.default_rng(0).uniform(-1, 1, (24, 3)).astype(np.float32)
Y = np.maximum(X[:, 0] + X[:, 1] ** 2, 0)
PERCEPTRON = surrogates.MLP(widths=(4,), epochs=2)
SMALL = {
    "DeepGP": {"hidden": (2,), "inducing": 8, "epochs": 2},
    "ExactGP": {"evaluations": 2},
    "MLP": {"widths": (4,), "epochs": 2},
    "XGBoost": {"rounds": 3},
    "BootstrapEnsemble": {"base": PERCEPTRON},
    "SparseGP": {"inducing": 8, "evaluations": 2},
    "Residual": {"base": PERCEPTRON, "exact": surrogates.ExactGP(evaluations=2)},
    "Stacked": {"bases": (PERCEPTRON, PERCEPTRON), "merits": (1.0, 0.5)},
    "SquareRoot": {"base": PERCEPTRON},
    "Feasibility": {"exact": surrogates.ExactGP(evaluations=2)},
}
MODELS = [
    name
    for name, value in ((name, getattr(surrogates, name)) for name in surrogates.__all__)
    if isinstance(value, type) and issubclass(value, Surrogate) and value is not Surrogate
]


def recipe(name: str) -> Surrogate:
    if name == "XGBoost":
        pytest.importorskip("xgboost", reason="needs the extra xgboost")
    return getattr(surrogates, name)(**SMALL.get(name, {}))


def rewritten(content: bytes, change) -> bytes:
    """The file with its description changed: `change` edits the JSON in place."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            member = before.read(name)
            if name == DESCRIPTION:
                description = json.loads(member)
                change(description)
                member = json.dumps(description).encode()
            after.writestr(name, member)
    return buffer.getvalue()


def assert_same_bits(one: Surrogate, other: Surrogate) -> None:
    for expected, actual in zip(one.predict(X), other.predict(X), strict=True):
        assert np.asarray(expected).tobytes() == np.asarray(actual).tobytes()


@pytest.fixture(scope="module")
def fitted() -> Surrogate:
    return PERCEPTRON.fit(X, Y, key=KEY)


@pytest.fixture(scope="module")
def content(fitted, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "model"
    save(path, fitted, features=FEATURES)
    return path.read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_is_bit_equal(name, tmp_path):
    model = recipe(name).fit(X, Y, key=KEY)
    path = tmp_path / "model"
    save(path, model, features=FEATURES)
    back = load(path, features=FEATURES)
    assert_same_bits(model, back)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        assert type(one) is type(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert getattr(one, "aval", None) == getattr(other, "aval", None)  # dtype, shape and weak type


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_round_trips(name, tmp_path):
    save(tmp_path / "model", recipe(name), features=FEATURES)
    assert load(tmp_path / "model") == recipe(name)


def test_trees_on_top_of_others_round_trip(tmp_path):
    model = recipe("XGBoost").fit(X, Y, key=KEY).adapt(X[:6], 2 * Y[:6], key=KEY)
    assert model.state.base is not None
    save(tmp_path / "model", model, features=FEATURES)
    assert_same_bits(model, load(tmp_path / "model"))


def test_an_ensemble_of_trees_round_trips(tmp_path):
    model = surrogates.BootstrapEnsemble(recipe("XGBoost")).fit(X, Y, key=KEY)
    save(tmp_path / "model", model, features=FEATURES)
    assert_same_bits(model, load(tmp_path / "model"))


@pytest.mark.parametrize(
    "value",
    [
        jnp.full((2,), 1.5),
        jnp.asarray(2),
        jnp.zeros((0, 3)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.float32(0.1),
        {"a": [1, (None, True)], "b": {2: "c"}},
        float("inf"),
        -0.0,
        2**70,
    ],
    ids=str,
)
def test_any_field_round_trips(value, fitted, tmp_path):
    save(tmp_path / "model", replace(fitted, state=value), features=FEATURES)
    back = load(tmp_path / "model").state
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert getattr(back, "dtype", None) == getattr(value, "dtype", None)
    assert getattr(back, "aval", None) == getattr(value, "aval", None)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damage_is_refused_or_harmless(data, content, fitted, tmp_path_factory):
    damaged = bytearray(content)
    if data.draw(st.booleans(), "truncate"):
        del damaged[data.draw(st.integers(0, len(content) - 1), "at") :]
    else:
        for _ in range(data.draw(st.integers(1, 3), "flips")):
            damaged[data.draw(st.integers(0, len(content) - 1), "at")] ^= data.draw(st.integers(1, 255), "bits")
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        model = load(path, features=FEATURES)
    except ValueError as error:
        sentence = str(error)
    else:
        sentence = str(path)
        assert_same_bits(fitted, model)
    assert str(path) in sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(version=VERSION + 1), "is newer than"),
        (lambda d: d.update(format="a diary"), "its format is 'a diary'"),
        (lambda d: d.pop("model"), "damaged"),
        (lambda d: d.update(model={"tuple": []}), "no surrogate"),
        (lambda d: d.update(model={"verse": []}), "describes nothing"),
        (lambda d: d["model"].update({"class": "subprocess:Popen"}), "none that a surrogate is made of"),
        (lambda d: d["model"].update({"class": "builtins:eval"}), "none that a surrogate is made of"),
        (lambda d: d["model"].update({"class": "surrogates.storage:Path"}), "none that a surrogate is made of"),
        (lambda d: d["model"].update({"class": "surrogates.storage:load"}), "none that a surrogate is made of"),
        (lambda d: d["model"].update({"class": "surrogates.absent:Model"}), "damaged"),
        (lambda d: d["model"]["fields"].pop("epochs"), "has the fields"),
        (lambda d: d["model"]["fields"].update(more=1), "has the fields"),
        (lambda d: d["model"]["fields"].update(state={"array": 99, "dtype": "int8", "shape": [], "kind": "jax"}), "damaged"),
        (lambda d: d["model"]["fields"].update(state={"array": 0, "dtype": "int8", "shape": [], "kind": "jax"}), "not int8"),
    ],
)
def test_what_is_not_ours_is_refused(change, sentence, content, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(rewritten(content, change))
    with pytest.raises(ValueError, match=sentence) as refusal:
        load(path)
    assert str(path) in str(refusal.value)


def test_other_features_are_refused(content, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"made for the features \['tile_f', 'tile_y', 'unroll'\]"):
        load(path, features=("tile_y", "tile_f", "unroll"))


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_inside_is_not_executed(content, tmp_path):
    sprung, path, buffer = tmp_path / "sprung", tmp_path / "model", BytesIO()
    trap = BytesIO()
    np.save(trap, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(BytesIO(content)) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name) if name == DESCRIPTION else trap.getvalue())
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="damaged"):
        load(path)
    assert not sprung.exists()


def test_what_cannot_be_read_is_not_written(fitted, tmp_path):
    path = tmp_path / "model"
    for value, place in ((print, "MLP.state"), ((object(),), r"MLP.state\[0\]"), (np.array([None]), "MLP.state")):
        with pytest.raises(TypeError, match=place):
            save(path, replace(fitted, state=value), features=FEATURES)
    assert not list(tmp_path.iterdir())


def test_saving_twice_gives_the_same_file_and_leaves_no_other(fitted, content, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"older")
    save(path, fitted, features=FEATURES)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_save_keeps_the_older_file(fitted, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space"):
        save(path, fitted, features=FEATURES)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_64_bit_models_ask_for_64_bit_types(fitted, tmp_path):
    with jax.enable_x64(True):
        save(tmp_path / "model", replace(fitted, state=jnp.arange(3.0)), features=FEATURES)
        assert load(tmp_path / "model").state.dtype == np.float64
    with pytest.raises(ValueError, match="set jax_enable_x64"):
        load(tmp_path / "model")


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "model")

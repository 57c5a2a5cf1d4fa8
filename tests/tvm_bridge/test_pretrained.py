"""Fitted models are found by operator, family of devices and space, and what does not fit is said in one sentence."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from surrogates import Constant, DeepGP, XGBoost, save
from tests.tvm_bridge.record_strategies import CPU, SMALL, TILED, small_task
from tvm_bridge import pretrained
from tvm_bridge.dense import Dense
from tvm_bridge.pretrained import digest, model_for, name_of
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

TASK = small_task()
TURING = small_task(target=Target.parse("cuda -arch=sm_75"))
FITTED = Constant().fit(np.zeros((1, 3)), np.ones(1), key=jax.random.key(0))
OTHER = Constant().fit(np.zeros((1, 3)), np.full(1, 2.0), key=jax.random.key(0))


def saved(folder, task, model=FITTED, **options):
    """A model under the name that fits a task."""
    path = folder / f"{name_of(task)}.gst"
    save(path, model, **{"features": task.space.feature_names} | options)
    return path


@pytest.mark.parametrize(
    ("workload", "target", "enlarged", "name"),
    [
        (SMALL, "cuda -arch=sm_86", False, "cuda-sm_86-conv2d_nchw"),
        (SMALL, "cuda -arch=sm_90a", False, "cuda-sm_90-conv2d_nchw"),
        (SMALL, "cuda -arch=sm_86", True, "cuda-sm_86-conv2d_nchw-enlarged"),
        (replace(SMALL, weight=(4, 1, 3, 3), groups=4), "cuda -arch=sm_86", False, "cuda-sm_86-depthwise_conv2d_nchw"),
        (TILED, CPU, False, "llvm-skylake-avx512-conv2d_nchw"),
        (Dense((1, 8), (4, 8)), CPU, True, "llvm-skylake-avx512-dense"),  # there is no more to choose
        (SMALL, "cuda", False, None),
        (TILED, "llvm -mtriple=aarch64-linux-gnu", False, None),
    ],
)
def test_name_tells_kind_family_operator_and_space(workload, target, enlarged, name):
    assert name_of(task_of(workload, Target.parse(target), enlarged=enlarged)) == name


def test_what_ships_is_taken_where_it_fits_and_missed_without_a_word(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    saved(tmp_path, TASK)
    assert model_for(TASK) == FITTED
    assert model_for(TASK, False) is None
    for task in (
        TURING,
        task_of(SMALL, Target.parse("cuda -arch=sm_86"), enlarged=True),
        task_of(SMALL, CPU),
        small_task(target=Target("cuda")),
        replace(TASK, workload=None),  # a table
    ):
        assert model_for(task) is None


def test_a_folder_of_ones_own_serves_each_task_and_says_what_it_lacks(tmp_path):
    saved(tmp_path, TASK, FITTED)
    saved(tmp_path, TURING, OTHER)
    assert model_for(TASK, tmp_path) == FITTED
    assert model_for(TURING, str(tmp_path)) == OTHER
    with pytest.warns(
        UserWarning, match=r"has no model for conv2d_nchw.llvm, which would take llvm-skylake-.*-conv2d_nchw.gst"
    ):
        assert model_for(task_of(SMALL, CPU), tmp_path) is None
    with pytest.warns(UserWarning, match="which is of no known family of devices"):
        assert model_for(small_task(target=Target("cuda")), tmp_path) is None


def test_a_file_and_a_model_are_taken_whatever_their_name(tmp_path):
    assert model_for(TURING, saved(tmp_path, TASK)) == FITTED
    assert model_for(TURING, FITTED) is FITTED


def test_a_damaged_file_and_one_of_other_features_are_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    path = saved(tmp_path, TASK, features=["a", "b"])
    with pytest.raises(
        ValueError, match=rf"pretrained: {path}: made for the features \['a', 'b'\], not .*; fit a model on these"
    ):
        model_for(TASK)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"pretrained: {path}: damaged, or not a saved surrogate .*; fit and save the model"):
        model_for(TASK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.gst", "pretrained: missing.gst is not there; give a saved model, a folder of them"),
        (DeepGP(), "pretrained: for conv2d_nchw.cuda: DeepGP knows nothing yet"),
        (XGBoost(rounds=1).fit(np.eye(3), np.arange(3), key=jax.random.key(0)), "pretrained: for conv2d_nchw.cuda: .*column"),
        (7, "pretrained: int is no model; give True, False, a path or a fitted surrogate"),
    ],
    ids=["missing", "recipe", "columns", "number"],
)
def test_what_cannot_be_used_is_refused_with_the_way_out(given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        model_for(TASK, given)
    assert "\n" not in str(refused.value)


def test_digests_tell_models_apart():
    assert digest([None, None]) is None
    assert digest([FITTED, None]) == digest([replace(FITTED), None])
    assert len({digest(models) for models in ([FITTED, None], [None, FITTED], [OTHER, None], [FITTED, FITTED])}) == 4


def test_every_model_that_ships_has_its_card():
    models, cards = ({path.stem for path in pretrained.FOLDER.glob(f"*{suffix}")} for suffix in (".gst", ".md"))
    assert models == cards

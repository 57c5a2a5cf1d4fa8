"""The laws of pooling: each task's best becomes 1, failures stay 0, and what was scaled comes back."""

import numpy as np
import pytest

from surrogates.pooling import described, pool

TASKS = [
    (np.arange(6.0).reshape(3, 2), np.array([0.0, 500.0, 2000.0])),
    (np.ones((2, 2)), np.array([3.0, 0.0])),
    (np.zeros((2, 2)), np.array([0.0, 0.0])),
]


def test_best_of_each_task_is_one_and_failures_stay_zero():
    pooled = pool(TASKS)
    np.testing.assert_array_equal(pooled.y, np.float32([0, 0.25, 1, 1, 0, 0, 0]))
    np.testing.assert_array_equal(pooled.x, np.concatenate([x for x, _ in TASKS]))


def test_split_gives_back_tasks_in_their_units():
    pooled = pool(TASKS)
    for values, (_, y) in zip(pooled.split(pooled.y), TASKS, strict=True):
        np.testing.assert_allclose(values, y)


def test_descriptors_become_columns():
    pooled = pool(TASKS, descriptors=[[1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(pooled.x[:, 2], [1, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(described(TASKS[0][0], [1.0]), pooled.x[:3])


def test_negative_targets_keep_their_scale():
    np.testing.assert_array_equal(pool([(np.ones((2, 1)), np.array([-4.0, -2.0]))]).y, [-4, -2])


@pytest.mark.parametrize(
    ("tasks", "descriptors", "message"),
    [
        ([], None, "there are none"),
        (TASKS, [[1.0]], "1 for 3 tasks"),
        ([*TASKS, (np.ones((2, 3)), np.ones(2))], None, r"\[2, 3\] columns"),
        ([(np.ones((2, 2)), np.ones(3))], None, "a target for each"),
    ],
)
def test_what_cannot_be_pooled_is_refused(tasks, descriptors, message):
    with pytest.raises(ValueError, match=message):
        pool(tasks, descriptors=descriptors)

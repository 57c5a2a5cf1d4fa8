"""What a network is run on."""

import numpy as np

from tvm_bridge.network.jobs import random_inputs


def test_whole_numbers_are_valid_indices_and_images_are_normal():
    inputs = [("image", (8, 64), "float32"), ("words", (8, 64), "int64"), ("mask", (8, 64), "bool")]
    image, words, mask = random_inputs(inputs)
    assert [each.dtype for each in (image, words, mask)] == [np.float32, np.int64, np.bool_]
    assert image.min() < -1 < 1 < image.max()
    assert set(words.flat) == {0, 1}
    np.testing.assert_array_equal(random_inputs(inputs)[0], image)

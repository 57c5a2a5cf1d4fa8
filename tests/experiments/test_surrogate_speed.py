"""The helpers of the comparison: calls take turns, and the tables have what was measured."""

from experiments.bounds import Peaks, Work
from experiments.fresh_process import data, peak
from experiments.surrogate_speed import alternating, compared, report

PEAKS = Peaks(flop=1e9, exponentials=1e9, bytes=1e9)


def test_calls_take_turns_and_the_median_is_kept():
    turns, times = [], iter([3.0, 1.0, 2.0])

    def call():
        turns.append("a")
        return next(times)

    def other():
        turns.append("b")
        return 5.0

    assert alternating({"a": call, "b": other}, 3) == {"a": 2.0, "b": 5.0}
    assert turns == ["a", "b"] * 3


def test_report_has_a_line_for_each_comparison_in_its_unit():
    rows = [
        compared("a step", "step", (2e-3, 30e-3), Work(1e6), PEAKS),
        compared("a row", "row", (2e-6, 3e-6), Work(1e3), PEAKS),
    ]
    text = report(rows, {"import, s": [1.5]}, PEAKS, {"jax": "1"})
    assert "| a step | 2 ms | 30 ms | 15.0 | 1 ms | 50% | floating-point operations |" in text
    assert "| a row | 2 us | 3 us | 1.5 | 1 us | 50% | floating-point operations |" in text
    assert "| import, s | 1.5 |" in text


def test_peak_memory_is_that_of_this_process():
    before = peak()
    x, y = data(500_000)
    assert len(x) == len(y)
    assert peak() >= max(before, x.nbytes)

"""Curves average seeds before tasks, and only tasks that every method has."""

import numpy as np

from experiments.comparison_report import BUDGETS, ablations, by_task, curves_of, reached, shares, summary


def line(method: str, task: str, seed: int, best: float) -> dict:
    return {"method": method, "device": "gpu", "task": task, "seed": seed, "best": [best] * len(BUDGETS)}


def test_seeds_are_averaged_and_tasks_are_common():
    lines = [line("a", "one", 0, 0.5), line("a", "one", 1, 0.7), line("a", "two", 0, 0.9), line("b", "one", 0, 0.8)]
    curves = curves_of(lines)
    np.testing.assert_allclose(curves["a"], [[0.6] * len(BUDGETS)])
    np.testing.assert_allclose(curves["b"], [[0.8] * len(BUDGETS)])


def test_shares_are_of_the_best_any_method_found_where_no_table_knows_more():
    one, two = ({**line(method, "one", 0, best), "tasks": "llvm"} for method, best in (("a", 50.0), ("b", 80.0)))
    recorded = {**line("a", "one", 0, 0.5), "tasks": "pools"}
    assert [each["best"][0] for each in shares([one, two, recorded])] == [50 / 80, 1.0, 0.5]


def test_an_ablation_is_compared_with_the_method_on_the_same_runs():
    changed, own, other = (line(method, "one", 0, 0.5) for method in ("a, blind", "a", "b"))
    elsewhere = [line("a", "one", 1, 0.5), line("a", "two", 0, 0.5)]
    lines = [{**each, "tasks": "tables", "history": "none"} for each in (changed, own, other, *elsewhere)]
    assert ablations(lines) == {("tables", "none"): lines[:2]}


def test_a_level_is_reached_between_budgets():
    curve = np.array([0.2, 0.4, 0.6, 0.6, 0.8, 1.0])
    assert [reached(curve, level) for level in (0.1, 0.4, 0.6, 1.0)] == [8, 16, 32, 256]
    np.testing.assert_allclose(reached(curve, 0.9), 128 * 2**0.5)
    assert reached(curve, 1.1) == np.inf


def test_the_summary_names_the_best_other_method():
    rising = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    curves = {"gausstune": 1.5 * rising, "random": 0.5 * rising, "autotvm": rising}
    text = "\n".join(summary({("tables", "none"): curves}, {("tables", "none"): [("gpu", "one")]}))
    assert "| 0.300 / 0.200 autotvm | 0.450 / 0.300 autotvm | 0.600 / 0.400 autotvm | 0.750 / 0.500 autotvm | 64 |" in text


def test_each_task_names_its_own_best_other_method():
    flat = np.ones((2, len(BUDGETS)))
    curves = {"gausstune": 0.5 * flat, "random": flat * [[0.6], [0.1]], "autotvm": flat * [[0.2], [0.4]]}
    one, two = by_task(curves, [("gpu", "one"), ("gpu", "two")])[4:6]
    assert one.startswith("| one | 0.500 / 0.600 random |")
    assert two.startswith("| two | 0.500 / 0.400 autotvm |")
    assert "| one on gpu |" in "\n".join(by_task(curves, [("gpu", "one"), ("other", "one")]))

"""Curves average seeds before tasks, and only tasks that every method has."""

import numpy as np

from experiments.comparison_report import BUDGETS, ablations, curves_of, shares


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

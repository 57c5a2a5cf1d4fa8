"""A search's log tells what it has cost, and whether it came to its end; only then is it not done again."""

import pytest

from experiments import log, metaschedule, metaschedule_network
from tvm_bridge.network.database import FILES

ROUNDS = [{"trials": 64, "seconds": 50.0}, {"trials": 30, "seconds": 20.5}]
END = {"trials": 0, "seconds": 0.0, "finished": 128}


@pytest.fixture
def searched(tmp_path):
    """Makes the folder of a search with such a log."""

    def searched(lines):
        log.extend(tmp_path / "batches.jsonl", lambda _: lines)
        return tmp_path

    return searched


def test_nothing_was_spent_before_a_search(tmp_path):
    assert metaschedule.spent(tmp_path / "absent") == (0, 0)
    assert not metaschedule.finished(tmp_path / "absent", 1)


def test_all_rounds_count_whether_the_search_was_stopped_or_not(searched):
    assert metaschedule.spent(searched(ROUNDS)) == (94, 70.5)
    assert metaschedule.spent(searched([END])) == (94, 70.5)


def test_a_smaller_budget_took_the_first_rounds(searched):
    folder = searched(ROUNDS)
    assert [metaschedule.spent(folder, trials) for trials in (1, 64, 65)] == [(64, 50.0), (64, 50.0), (94, 70.5)]


def test_a_smaller_budget_found_the_first_lines_of_the_database(searched, tmp_path):
    folder = searched(ROUNDS)
    workloads, tuning_records = FILES
    (folder / workloads).write_text("workloads\n")
    (folder / tuning_records).write_text("".join(f"{number}\n" for number in range(94)))
    first = metaschedule_network.first_rounds(folder, 50, tmp_path / "first")
    assert (first / workloads).read_text() == "workloads\n"
    assert (first / tuning_records).read_text().split() == [str(number) for number in range(64)]


def test_a_stopped_search_is_not_finished_however_much_it_measured(searched):
    assert not metaschedule.finished(searched(ROUNDS), 64)


def test_a_finished_search_is_one_of_as_many_trials_be_it_that_it_found_fewer(searched):
    folder = searched([*ROUNDS, END])
    assert [metaschedule.finished(folder, trials) for trials in (64, 128, 129)] == [True, True, False]
    before = (folder / "batches.jsonl").read_bytes()
    metaschedule.tune(None, folder, 128)
    assert (folder / "batches.jsonl").read_bytes() == before

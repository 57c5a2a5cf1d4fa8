"""The laws of the driver: what is measured depends on the budget and the measured values alone, and everything is closed."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import driver
from search.driver import Driver, run

LAW = settings(deadline=None)


class Bench:
    """A method that proposes the numbers 0, 1, 2, ... in batches of given sizes, and a laboratory that knows their throughput.

    `measured` holds the numbers in the order in which the laboratory was asked, `received` what the method was told.
    """

    def __init__(self, values, sizes, shuffle=None):
        self.values, self.sizes = np.array(values, float), sizes
        self.shuffle = shuffle or (lambda rows: None)
        self.measured, self.received, self.events = [], [], []

    def search(self):
        first = 0
        try:
            for size in self.sizes:
                batch = np.arange(first, min(first + size, len(self.values)))[:, None]
                if not len(batch):
                    return
                self.received.append((yield batch))
                first += size
        finally:
            self.events.append("search closed")

    def measure(self, knobs):
        self.measured += knobs[:, 0].tolist()
        arrivals = list(range(len(knobs)))
        self.shuffle(arrivals)
        try:
            for row in arrivals:
                yield row, self.values[knobs[row, 0]]
        finally:
            self.events.append("measure closed")


def end_of(values, trials, early_stopping):
    """Where and why a search that measures one value after the other ends."""
    best, best_at = 0.0, 0
    for done, value in enumerate(values):
        if done == trials:
            return done, "trials"
        if early_stopping is not None and done - best_at == early_stopping:
            return done, "early stopping"
        if value > best:
            best, best_at = value, done + 1
    return len(values), "exhausted"


values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=40)
sizes = st.lists(st.integers(1, 12), min_size=40, max_size=40)


@LAW
@given(values, sizes, st.integers(1, 50), st.none() | st.integers(1, 12), st.randoms(use_true_random=False))
def test_end_depends_on_the_values_alone(values, sizes, trials, early_stopping, random):
    """Neither how the proposals are cut into batches nor the order of arrival within one matters."""
    bench = Bench(values, sizes, random.shuffle)
    ended = run(bench.search(), bench.measure, trials=trials, early_stopping=early_stopping)
    done, why = end_of(values, trials, early_stopping)
    assert bench.measured == list(range(done))
    assert ended.trials == done
    if done < len(values):
        assert ended.stopped == why
    else:  # the last proposal may have met a limit too
        assert ended.stopped == "exhausted" or done == trials or early_stopping is not None


@LAW
@given(values, sizes, st.randoms(use_true_random=False))
def test_results_reach_the_rows_they_belong_to(values, sizes, random):
    bench = Bench(values, sizes, random.shuffle)
    run(bench.search(), bench.measure, trials=len(values) + 1)
    assert np.concatenate(bench.received).tolist() == values


@LAW
@given(values, sizes, st.lists(st.integers(0, 9), max_size=12), st.none() | st.integers(1, 12))
def test_pieces_measure_what_the_whole_measures(values, sizes, pieces, early_stopping):
    """A search that is advanced piece by piece measures, and is told, what one in a single run is."""
    whole, cut = Bench(values, sizes), Bench(values, sizes)
    ended = run(whole.search(), whole.measure, trials=len(values), early_stopping=early_stopping)
    with Driver(cut.search(), cut.measure, early_stopping=early_stopping) as driver:
        for piece in [*pieces, len(values)]:
            before = driver.trials
            spent = driver.advance(piece)
            assert (spent, driver.trials) == (len(cut.measured) - before, len(cut.measured))
            assert spent == piece or (spent < piece and driver.stopped)
            assert driver.best == max([0.0, *values[: driver.trials]])
    assert cut.measured == whole.measured
    assert driver.trials == ended.trials
    told, said = (np.concatenate([[], *bench.received]) for bench in (whole, cut))
    assert said[: len(told)].tolist() == told.tolist()


def test_closing_a_driver_that_never_began_closes_the_method():
    driver = Driver((bench := Bench([1], [1])).search(), bench.measure)
    driver.close()
    assert driver.run("trials").trials == 0


def test_early_stopping_cuts_a_batch_where_it_could_happen():
    """The second best comes late in a batch: without the cut it would be measured, and reset the count."""
    bench = Bench([5, 1, 1, 1, 9], [5])
    assert run(bench.search(), bench.measure, trials=100, early_stopping=3).stopped == "early stopping"
    assert bench.measured == [0, 1, 2, 3]


def test_equal_throughput_is_no_new_best():
    bench = Bench([2, 2, 2, 2, 2], [1] * 5)
    assert run(bench.search(), bench.measure, trials=100, early_stopping=2).trials == 3


def test_method_is_not_told_of_a_batch_that_was_cut():
    bench = Bench(range(10), [4, 6])
    run(bench.search(), bench.measure, trials=7)
    assert [told.tolist() for told in bench.received] == [[0, 1, 2, 3]]


def test_method_is_not_asked_again_once_the_budget_is_spent():
    """A method may think for minutes before it proposes."""
    bench = Bench(range(8), [4, 4])
    run(bench.search(), bench.measure, trials=4)
    assert bench.received == []


@pytest.mark.parametrize("batch", [np.empty((0, 3), np.int32), np.empty(0), []])
def test_empty_batch_is_an_error(batch):
    def search():
        while True:
            yield batch

    with pytest.raises(ValueError, match=r"search: .* empty batch"):
        run(search(), Bench([], []).measure, trials=5)


def test_single_row_is_a_batch_of_one():
    shapes = []

    def search():
        shapes.append((yield np.array([3, 4])).shape)

    def measure(knobs):
        shapes.append(knobs.shape)
        yield 0, 1.0

    assert run(search(), measure, trials=5).trials == 1
    assert shapes == [(1, 2), (1,)]


def test_method_that_proposes_nothing_is_exhausted():
    ended = run(Bench([], []).search(), Bench([], []).measure, trials=5, early_stopping=1)
    assert (ended.stopped, ended.trials) == ("exhausted", 0)


# The clock


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved: `clock.now += 1`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(driver, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class SlowBench(Bench):
    """Ten seconds to propose a batch, one second a measurement."""

    def __init__(self, clock, values, sizes):
        super().__init__(values, sizes)
        self.clock = clock

    def search(self):
        batches = super().search()
        results = None
        while True:
            self.clock.now += 10
            try:
                results = yield batches.send(results)
            except StopIteration:
                return

    def measure(self, knobs):
        for result in super().measure(knobs):
            self.clock.now += 1
            yield result


def test_time_limit_drops_what_is_under_way(clock):
    bench = SlowBench(clock, range(20), [4, 16])
    ended = run(bench.search(), bench.measure, trials=20, time_limit=26.5)
    assert (ended.stopped, ended.trials) == ("time limit", 4 + 3)
    assert clock.now == 127
    assert len(bench.received) == 1
    assert bench.events.count("measure closed") == 2


def test_time_limit_not_reached_changes_nothing(clock):
    bench = SlowBench(clock, range(20), [4, 16])
    assert run(bench.search(), bench.measure, trials=20, time_limit=1e6).trials == 20


def test_seconds_are_shared_out_between_method_and_measuring(clock):
    bench = SlowBench(clock, range(6), [4, 2])
    ended = run(bench.search(), bench.measure, trials=10)
    assert (ended.seconds_searching, ended.seconds_measuring) == (30, 6)


# Closing


class Kept:
    """Holds on to the iterators that a bench makes: nothing is closed just because nobody refers to it any more."""

    def __init__(self, bench):
        self.bench, self.iterators = bench, [bench.search()]
        self.search = self.iterators[0]

    def measure(self, knobs):
        self.iterators.append(self.bench.measure(knobs))
        return self.iterators[-1]


@pytest.mark.parametrize(
    "limits",
    [{"trials": 3}, {"trials": 4}, {"trials": 9, "early_stopping": 1}, {"trials": 9, "time_limit": 1e-9}],
    ids=["trials in a batch", "trials between batches", "early stopping", "time limit"],
)
def test_search_and_measure_are_closed(limits):
    kept = Kept(Bench([0] * 6, [4, 2]))
    run(kept.search, kept.measure, **limits)
    assert set(kept.bench.events) == {"search closed", "measure closed"}


def test_search_and_measure_are_closed_when_measuring_fails():
    def fail(rows):
        raise KeyboardInterrupt

    kept = Kept(Bench(range(6), [4, 2], fail))
    with pytest.raises(KeyboardInterrupt):
        run(kept.search, kept.measure, trials=6)
    assert "search closed" in kept.bench.events


def test_a_configuration_without_a_result_is_the_measurers_fault():
    bench = Bench([1.0, 2.0, 3.0], [3])

    def forgetful(knobs):
        yield 0, 1.0

    with pytest.raises(RuntimeError, match="measure: it gave 1 results for 3 configurations; it must answer for each"):
        run(bench.search(), forgetful, trials=3)
    assert bench.events == ["search closed"]

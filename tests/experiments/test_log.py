"""A log loses nothing but a torn last line, and the next run goes on after what it holds."""

import json

import pytest

from experiments.log import extend, read


def counting(upto):
    return lambda known: ({"n": n} for n in range(len(known), upto))


def test_a_run_goes_on_where_another_ended(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    assert read(path) == []
    extend(path, counting(3))
    extend(path, counting(5))
    assert [line["n"] for line in read(path)] == [0, 1, 2, 3, 4]


def test_what_came_before_a_crash_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"

    def crashing(known):
        yield {"n": 0}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend(path, crashing)
    assert read(path) == [{"n": 0}]


def test_a_torn_last_line_is_dropped_with_a_warning_and_overwritten(tmp_path):
    path = tmp_path / "log.jsonl"
    extend(path, counting(2))
    with path.open("a") as file:
        file.write('{"n": ')
    with pytest.warns(UserWarning, match="the last line is torn"):
        assert len(read(path)) == 2
    with pytest.warns(UserWarning, match="the last line is torn"):
        extend(path, counting(4))
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]

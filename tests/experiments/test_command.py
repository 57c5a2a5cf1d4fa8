"""Experiments end with a line and an exit code, whatever happens."""

import sys

import pytest

from experiments.command import complaining, ended, pyplot


def raising(error):
    def work():
        raise error

    return work


def test_the_works_own_code_is_the_exit_code(capsys):
    assert [ended("program", lambda code=code: code, "a folder keeps it") for code in (0, 1)] == [0, 1]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError, OSError, KeyError, ImportError, RuntimeError])
def test_an_error_is_one_line(capsys, error):
    assert ended("program", raising(error("it does\nnot work")), "a folder keeps it") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("program: ")
    assert "not work" in line


def test_ctrl_c_says_what_is_kept(capsys):
    assert ended("program", raising(KeyboardInterrupt()), "a folder keeps it, go on") == 130
    assert capsys.readouterr().err == "program: stopped; a folder keeps it, go on\n"


def test_work_that_complains_goes_on_and_its_code_is_one(capsys):
    def work(complain):
        for layer in ("first", "second"):
            complain(f"{layer}: it does not work.")

    assert complaining("program", work, "a folder keeps it") == 1
    assert capsys.readouterr().err == "program: first: it does not work.\nprogram: second: it does not work.\n"
    assert complaining("program", lambda complain: None, "a folder keeps it") == 0


def test_no_picture_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert pyplot("program") is None
    assert capsys.readouterr().err == "program: no picture; install the extra 'plot' for it\n"

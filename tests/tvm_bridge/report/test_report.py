"""Where a report goes, and the command that writes it."""

import pytest

from tests.tvm_bridge.record_strategies import record, write_log
from tests.tvm_bridge.report.pages import network_folder
from tvm_bridge.cli import main
from tvm_bridge.report import report, write_report

pytestmark = pytest.mark.filterwarnings("default")  # the command prints warnings itself


@pytest.mark.parametrize(("log", "page"), [("rb1.jsonl", "rb1.html"), ("rb1.jsonl.gz", "rb1.html"), ("a.log", "a.log.html")])
def test_report_lies_beside_its_log(tmp_path, log, page):
    write_log(tmp_path / log, [record()])
    assert write_report(tmp_path / log) == tmp_path / page
    assert (tmp_path / page).read_text() == report(tmp_path / log)


def test_report_lies_in_the_folder_or_where_it_is_wanted(tmp_path):
    folder = network_folder(tmp_path / "tiny")
    assert write_report(folder) == folder / "report.html"
    assert write_report(str(folder), tmp_path / "new" / "page.html").exists()


def test_log_is_never_written_over(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [record()])
    kept = log.read_bytes()
    with pytest.raises(ValueError, match=r"output: .*log\.jsonl must end in \.html"):
        write_report(log, log)
    assert log.read_bytes() == kept


def test_command_prints_where_the_page_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log.jsonl", [record()])
    assert main(["report", "log.jsonl"]) == 0
    assert main(["report", "log.jsonl", "-o", "other.html"]) == 0
    assert capsys.readouterr().out.split() == ["log.html", "other.html"]
    assert (tmp_path / "log.html").read_text() == (tmp_path / "other.html").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nothing.jsonl"], "nothing.jsonl is not there"),
        (["."], "holds no records.jsonl"),
        (["empty.jsonl"], "empty.jsonl holds no record of a measurement"),
        (["log.jsonl", "-o", "log.jsonl"], "log.jsonl must end in .html"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(tmp_path, monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    write_log(tmp_path / "log.jsonl", [record()])
    assert main(["report", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert {path.name for path in tmp_path.iterdir()} == {"empty.jsonl", "log.jsonl"}

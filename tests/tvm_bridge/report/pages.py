"""A report read back for tests: its elements, its tables and its text; and samples of what a tuning leaves behind."""

import json
from html.parser import HTMLParser
from importlib.resources import files

from tests.tvm_bridge.record_strategies import TILED, record, small_task, write_log
from tvm_bridge.report.markup import VOID

PAGE = "html head meta title style body script header section div p span b h1 h2 dl dt dd ul li br code pre details summary"
FIGURES = "figure figcaption table thead tbody tfoot tr th td svg g path rect circle text"
ELEMENTS = {*PAGE.split(), *FIGURES.split()}
"""What a report is made of."""


class Page(HTMLParser):
    """A parsed report; one that is not well-formed, or has what no report should have, is an `AssertionError`."""

    def __init__(self, document):
        super().__init__()
        self.open, self.rows, self.charts, self.texts = [], [], [], {}
        self.feed(document)
        self.close()
        assert not self.open
        assert self.texts["script"] == [files("tvm_bridge.report").joinpath("script.js").read_text()]
        assert len(self.texts["style"]) == 1

    def handle_starttag(self, tag, attrs):
        assert tag in ELEMENTS
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href", "action")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "svg":
            self.charts.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.texts[tag][-1] += data
        if "tr" in self.open:
            self.rows[-1][-1] += data

    def row(self, label):
        """The cells of the row of tables that begins with a label."""
        return next(row for row in self.rows if row and row[0] == label)

    def charts_of(self, kind):
        """The charts of a kind."""
        return [chart for chart in self.charts if chart["class"] == f"chart {kind}"]


TASKS = {"stem": small_task(), "body": small_task(workload=TILED)}
"""The tasks of the sample network."""

TIMES = {"stem": [None, 4e-4, 2e-4, None], "body": [3e-3, 5e-3]}
"""What was measured of them, beside default schedules that take 1 ms and 2 ms."""


def network_folder(folder, **changes):
    """A tuning's folder: "stem" once and five times faster, "body" three times and left as it is."""
    lines, tasks = [], []
    for label, default, count in (("stem", 1e-3, 1), ("body", 2e-3, 3)):
        task = TASKS[label]
        lines.append(record(-1, default, task=task, device="a board"))
        lines += [record(index, seconds, task=task, message="out of memory") for index, seconds in enumerate(TIMES[label])]
        about = {"label": label, "operator": task.operator, "args": list(task.args), "function": "", "count": count}
        tasks.append(about | {"flop": task.flop})
    folder.mkdir(exist_ok=True)
    write_log(folder / "records.jsonl", lines)
    described = {"network": "tiny", "target": TASKS["stem"].target.to_json(), "method": "random", "seed": 7, "trials": 6}
    described |= {"enlarged": False, "tasks": tasks, "uncovered": [{"function": "fused_softmax", "count": 2}]}
    (folder / "network.json").write_text(json.dumps(described | changes))
    write_lines(folder / "rounds.jsonl", [ROUND, ROUND | {"task": "body", "network_seconds": 6.2e-3}])
    write_lines(
        folder / "latency.jsonl",
        [LATENCY | {"seconds": [1.0]}, LATENCY | {"what": "tuned", "seconds": [4e-3, 5e-3, 6e-3]}, LATENCY],
    )
    return folder


ROUND = {"task": "stem", "trials": 4, "seconds_searching": 1.5, "seconds_measuring": 6.0, "network_seconds": 7e-3}
LATENCY = {"what": "default", "seconds": [10e-3, 12e-3], "device": "a board", "timestamp": 1.0}


def write_lines(path, rows):
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

"""The page in a browser: it draws what it should, and nothing complains."""

import re
import shutil
import subprocess

import pytest

from tests.tvm_bridge.report.pages import network_folder
from tvm_bridge.report import report

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or chrome on the path")

POINT = """
const svg = document.querySelector("svg.curve"), box = svg.getBoundingClientRect();
const at = { clientX: box.right - 1, clientY: box.top + 9 };
svg.dispatchEvent(new PointerEvent("pointermove", at));
document.body.dataset.read = svg.querySelector(".readout").textContent;
svg.dispatchEvent(new PointerEvent("pointerleave"));
dispatchEvent(new Event("beforeprint"));
"""
"""What a reader does: point at the end of the first curve, away again, and print."""

MEASURE = """
document.body.dataset.drawn = [...document.querySelectorAll("svg.chart")].filter(
  (each) => each.getBoundingClientRect().height > 20 && each.getBBox().width > 100).length;
document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
"""
"""What a reader sees: how many charts have an extent, and whether anything sticks out of the window."""


def opened(path, document):
    """The document as a browser has it after its scripts, and what it wrote to the console."""
    path.write_text(document)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1000,900"]
    folder = f"--user-data-dir={path.parent / 'profile'}"
    command = [BROWSER, *options, folder, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_page_opens_without_a_complaint_and_runs_no_script_but_its_own(tmp_path):
    folder = network_folder(tmp_path / "tiny", network="<script>document.title = 'run'</script>")
    document = report(folder).replace("</body>", "<script>document.title = 'run'</script></body>")
    shown, complaints = opened(tmp_path / "page.html", document)
    assert len(re.findall(r'<svg class="chart', shown)) == 7
    assert "<title>run</title>" not in shown
    assert len(complaints) == 1  # of the script that was added
    assert "Content Security Policy" in complaints[0]


def test_charts_are_drawn_and_answer_a_pointer(tmp_path):
    document = re.sub(r'<meta http-equiv="[^>]*>', "", report(network_folder(tmp_path / "tiny")))
    shown, complaints = opened(tmp_path / "page.html", document.replace("</body>", f"<script>{POINT}{MEASURE}</script></body>"))
    assert complaints == []
    (body,) = re.findall(r"<body[^>]*>", shown)
    assert 'data-drawn="7"' in body
    assert 'data-wide="false"' in body
    assert re.search(r'data-read="after 3: [\d.]+ GFLOPS"', body)
    assert shown.count("<details open") == shown.count("<details")

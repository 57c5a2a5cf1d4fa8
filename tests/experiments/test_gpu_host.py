"""What is packed for a host without a registry is whole there: the packages, the project, and an environment to work in."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "experiments" / "gpu_host.sh"

pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("bash", "xz", "split"))), reason="bash, xz or split is missing")

PYTHON = f"""#!/bin/sh
# A Python 3.12 whose pip has nothing but these wheels to give.
case "$*" in
    *"pip download"*) echo "$*" > "$NOTES"; while [ "$1" != --dest ]; do shift; done; cp "$WHEELS"/*.whl "$2" ;;
    *"pip wheel"*) while [ "$1" != --wheel-dir ]; do shift; done; mkdir -p "$2"; cp "$WHEELS"/first*.whl "$2" ;;
    *version_info*) ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def environment(tmp_path):
    """Wheels of three packages, one of which keeps a module apart, and a Python that knows no others."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, inside in (("first", "first.py"), ("second", "second-1.0.data/purelib/second.py"), ("thi_rd", "thi_rd.py")):
        with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(inside, "")
            wheel.writestr(f"{name}-1.0.dist-info/METADATA", "")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    set_here = {"PYTHON": str(python), "WHEELS": str(wheels), "NOTES": str(tmp_path / "notes"), "XZ_OPT": "-0"}
    return os.environ | set_here


def run(environment, *command):
    return subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)


def test_packed_project_is_restored(environment, tmp_path):
    packed, host = tmp_path / "packed", tmp_path / "a host"
    result = run(environment, "bash", SCRIPT, "-p", 1, "-x", "thi-rd", packed, "an-extra")
    assert result.returncode == 0, result.stderr
    asked = (tmp_path / "notes").read_text()
    assert "--python-version 3.12" in asked
    assert asked.endswith("an-extra\n")
    assert all(part.stat().st_size <= 1e6 for part in packed.glob("part.*"))
    result = run(environment, "sh", packed / "unpack.sh", host)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (host / "site").iterdir()} == {
        *("first.py", "first-1.0.dist-info"),
        *("second.py", "second-1.0.dist-info"),
    }
    for name in ("pyproject.toml", "experiments/record.py", "tests/experiments/test_gpu_host.py"):
        assert (host / "project" / name).read_bytes() == (PROJECT / name).read_bytes()
    ask = f'. "{host}/env.sh"; cd /; {sys.executable} -c "import first, second, experiments.log as log; print(log.__file__)"'
    result = run(environment, "sh", "-c", ask)
    assert result.stdout.strip() == str(host / "project" / "experiments" / "log.py"), result.stderr
    (packed / "part.000").write_bytes(b"torn")
    result = run(environment, "sh", packed / "unpack.sh", tmp_path / "other")
    assert result.returncode != 0
    assert "part.000: FAILED" in result.stdout
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "gpu_host.sh [-p MEGABYTES] [-x NAME]... OUT"),
        (["-p", "none", "{}/new"], "gpu_host.sh [-p MEGABYTES] [-x NAME]... OUT"),
        (["{}/wheels"], "is not empty; name a new folder"),
        (["-x", "fourth", "{}/new"], "-x fourth: no such package is needed"),
    ],
)
def test_wrong_input_is_one_line(environment, tmp_path, arguments, message):
    result = run(environment, "bash", SCRIPT, *(argument.format(tmp_path) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1

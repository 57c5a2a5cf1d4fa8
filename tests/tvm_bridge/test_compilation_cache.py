"""Compiled programs are kept for the next process, unless JAX was told otherwise."""

import os
import subprocess
import sys

import pytest

from tvm_bridge import compilation_cache

PROGRAM = """
import sys, types, jax
sys.modules["tvm_bridge"] = package = types.ModuleType("tvm_bridge")  # without TVM, which takes seconds to load
package.__path__ = [sys.argv[1]]
from tvm_bridge import compilation_cache
compilation_cache.LEAST_SECONDS = 0.0
compilation_cache.keep_compiled()
jax.jit(lambda x: x + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


def chosen(home, **settings):
    """The folder that a new process with these variables keeps programs in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_"))}
    environment |= {"HOME": str(home)} | settings
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, os.path.dirname(compilation_cache.__file__)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_programs_are_kept_in_a_private_folder(tmp_path, variable):
    folder = chosen(tmp_path, **({} if variable == "HOME" else {variable: str(tmp_path / "elsewhere")}))
    expected = tmp_path / (".cache" if variable == "HOME" else "elsewhere") / "gausstune" / "jax"
    assert folder == str(expected)
    assert list(expected.glob("*-cache"))
    assert expected.stat().st_mode & 0o077 == 0


def test_settings_of_jax_rule(tmp_path):
    assert chosen(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == str(tmp_path / "own")
    assert chosen(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    assert not (tmp_path / ".cache").exists()


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / ".cache").write_text("a file where a folder should be")
    assert chosen(tmp_path) == "None"

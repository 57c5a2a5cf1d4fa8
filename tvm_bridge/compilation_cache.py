"""What JAX compiles for a search is kept for the next process: the programs are the same, and compiling them takes seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax

LEAST_SECONDS = 0.02
"""What compiles faster is not worth a file."""


def keep_compiled() -> None:
    """Have JAX keep what it compiles in the user's cache folder, if it is told nothing else.

    JAX's own settings rule: `JAX_COMPILATION_CACHE_DIR` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=false` keeps
    nothing. A folder that cannot be made is done without.
    """
    settings: Any = jax.config  # its attributes are made at run time
    if settings.jax_compilation_cache_dir is not None or not settings.jax_enable_compilation_cache:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gausstune" / "jax"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():  # programs of others are not run
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)

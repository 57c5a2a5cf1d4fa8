"""Tests share compiled programs among all their processes, and leave none in the user's cache."""

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers, and the processes that tests start, are told of the first one's folder
    _programs = tempfile.TemporaryDirectory(prefix="gausstune-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

"""Tests leave no compiled programs in the user's cache."""

import os

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

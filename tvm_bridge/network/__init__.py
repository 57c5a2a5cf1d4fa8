"""Whole networks: a model in, its tasks tuned under one budget, a faster model out."""

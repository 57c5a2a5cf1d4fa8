"""Beliefs about a function known from few points: surrogate models. Nothing here knows knobs or TVM."""

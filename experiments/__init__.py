"""Do the papers' claims hold? One script a table or figure, run as `python -m experiments.NAME`."""

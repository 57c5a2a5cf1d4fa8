"""Where the published tuning records lie, and the mark of the tests that need them."""

import os
from pathlib import Path

import pytest


def records_folder() -> Path | None:
    """The folder named by GAUSSTUNE_RECORDS, else ../shared/data beside the project; None where neither exists."""
    places = [Path(__file__).parents[2] / "shared" / "data"]
    if named := os.environ.get("GAUSSTUNE_RECORDS"):
        places.insert(0, Path(named))
    return next((place for place in places if place.is_dir()), None)


RECORDS = records_folder()

needs_records = pytest.mark.skipif(
    RECORDS is None, reason="no published records: set GAUSSTUNE_RECORDS to their folder, or put it at ../shared/data"
)

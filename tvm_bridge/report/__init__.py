"""A page for people who look rather than read: what a tuning gained, found and cost, from its log or its folder."""

from __future__ import annotations

import os
from pathlib import Path

from tvm_bridge.report.page import page
from tvm_bridge.report.read import read_tuning

__all__ = ["default_path", "report", "write_report"]


def report(source: str | os.PathLike[str]) -> str:
    """Write the report of a tuning as one HTML document, which fetches nothing and needs no other file.

    **Arguments:**

    - `source`: a log, `.jsonl` or `.jsonl.gz`, of one task or several; or the folder of a tuned network.

    **Raises:** `FileNotFoundError` if there is no log, `ValueError` if it holds no record of a measurement.
    """
    return page(read_tuning(Path(source)))


def write_report(source: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a tuning to a file, or beside its log if no file is named; returns where it is.

    **Raises:** what `report` raises; `ValueError` if the file's name does not end in .html or .htm.
    """
    target = default_path(Path(source)) if path is None else Path(path)
    if target.suffix not in (".html", ".htm"):
        raise ValueError(f"output: {target} must end in .html, so that a log is never written over.")
    document = report(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(document, encoding="utf-8")
    return target


def default_path(source: Path) -> Path:
    """Where a report lies unless another place is named: "rb1.html" beside "rb1.jsonl.gz", "report.html" in a folder."""
    if source.is_dir():
        return source / "report.html"
    return source.with_name(f"{source.name.removesuffix('.gz').removesuffix('.jsonl')}.html")

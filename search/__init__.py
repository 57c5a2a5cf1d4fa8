"""Which configurations to try next: knob spaces, search methods and the driver that runs them. Nothing here knows TVM."""

from search.annealing import anneal
from search.driver import Driver, Run, run
from search.history import Source
from search.knobs import Option, Split
from search.space import KnobSpace
from search.ted import bted, ted

__all__ = ["Driver", "KnobSpace", "Option", "Run", "Source", "Split", "anneal", "bted", "run", "ted"]

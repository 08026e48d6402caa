"""Selective search (Uijlings et al., IJCV 2013): exact, reproducible and fast.

colour, filters, segmentation, similarity, grouping   the method, readable; plain.py runs it from
end to end
native/                                               the same, compiled; engine.py runs it, in
threads
strategies, settings, ranking, regions, search        what to run, in which order, and what comes
out
"""

from detector.proposals.selective_search.regions import Regions
from detector.proposals.selective_search.search import SelectiveSearch
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy
from detector.proposals.selective_search.warming import warm_up

__all__ = ["Regions", "SelectiveSearch", "SelectiveSearchSettings", "Strategy", "warm_up"]

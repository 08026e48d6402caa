"""Selective search (Uijlings et al., IJCV 2013): exact, reproducible and fast.

colour, filters, segmentation, similarity, grouping
    the method in readable NumPy; plain.py runs it from end to end and is the reference
numba/
    the same integers from compiled kernels; engine.py runs them in threads
strategies, settings, ranking, learned_ranking, regions, search
    presets, settings, the order of the proposals, masks, and the class `SelectiveSearch`
"""

from detector.proposals.selective_search.engine import warm_up
from detector.proposals.selective_search.regions import Regions
from detector.proposals.selective_search.search import SelectiveSearch
from detector.proposals.selective_search.settings import SelectiveSearchSettings
from detector.proposals.selective_search.strategies import Strategy

__all__ = ["Regions", "SelectiveSearch", "SelectiveSearchSettings", "Strategy", "warm_up"]

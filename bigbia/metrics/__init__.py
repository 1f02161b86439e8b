"""Metrics: two label images of the same voxels compared. Named as in scikit-image."""

from bigbia.metrics.matching import matching
from bigbia.metrics.overlap import contingency_table

__all__ = ["contingency_table", "matching"]

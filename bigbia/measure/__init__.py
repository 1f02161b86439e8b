"""Measure: components and the properties of objects. Named as in scikit-image."""

from bigbia.measure.components import label
from bigbia.measure.objects import objects
from bigbia.measure.properties import regionprops_table

__all__ = ["label", "objects", "regionprops_table"]

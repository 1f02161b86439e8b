"""Views: a part of an image, several images as one. No voxel changes; the names are `bigbia.select` and so on."""

from bigbia.arrange.joining import concat, stack
from bigbia.arrange.selecting import select

__all__ = ["concat", "select", "stack"]

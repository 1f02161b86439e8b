"""Transforms: other sizes, other places, projections. Named as in scikit-image."""

__all__: list[str] = []

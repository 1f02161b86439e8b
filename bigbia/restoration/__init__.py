"""Restoration: backgrounds, noise, blur. Named as in scikit-image."""

__all__: list[str] = []

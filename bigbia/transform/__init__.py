"""Transforms: other sizes, other places, projections. Named as in scikit-image."""

from bigbia.transform.affine import affine, rotate
from bigbia.transform.project import project
from bigbia.transform.resize import downscale_local_mean, rescale, resize

__all__ = ["affine", "downscale_local_mean", "project", "rescale", "resize", "rotate"]

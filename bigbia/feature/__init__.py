"""Features: places in an image that stand out, and what there is around each voxel. Named as in scikit-image."""

from bigbia.feature.basic import multiscale_basic_features
from bigbia.feature.blobs import blob_dog, blob_log
from bigbia.feature.peaks import peak_local_max
from bigbia.feature.tensors import (
    hessian_matrix,
    hessian_matrix_eigvals,
    structure_tensor,
    structure_tensor_eigenvalues,
)

__all__ = [
    "blob_dog",
    "blob_log",
    "hessian_matrix",
    "hessian_matrix_eigvals",
    "multiscale_basic_features",
    "peak_local_max",
    "structure_tensor",
    "structure_tensor_eigenvalues",
]

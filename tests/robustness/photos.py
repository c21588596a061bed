"""Images that the corruptions are tried on."""

import numpy as np
from scipy import ndimage


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some grain: uint8 [height, width, 3] that uses the whole range."""
    rng = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(rng.standard_normal((height, width, 3)), (4, 4, 0))
    x = 128 + 70 * x / x.std() + 8 * rng.standard_normal(x.shape)
    return np.clip(x, 0, 255).astype(np.uint8)

"""One joint map of all replies: UMAP, with constants of our own (the paper names none)."""

import warnings

import numpy as np

from drift.errors import PrerequisiteError

NEIGHBOURS, MIN_DISTANCE = 15, 0.1


def project(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """float [n, D] -> float64 [n, 2]. Raises PrerequisiteError without the extra."""
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise PrerequisiteError("umap is missing; install it: pip install 'drift-training[eval]'") from None
    neighbours = min(NEIGHBOURS, len(embeddings) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap says that a seed means one thread, which is what we ask for
        mapper = UMAP(n_neighbors=neighbours, min_dist=MIN_DISTANCE, metric="cosine", random_state=seed, n_jobs=1)
        return np.asarray(mapper.fit_transform(embeddings), dtype=np.float64)

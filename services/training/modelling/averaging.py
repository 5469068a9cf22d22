"""The mean of several fits' weights: of fits that went on from the same weights, and so lie in one basin."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np

from services.training.modelling.fitting import freeze_early, measure_normalisation


def averaged(fits: Sequence[keras.Model], scans: Iterable[np.ndarray]) -> keras.Model:
    """Return the first network with the mean of all their weights, its normalisation measured on these batches.

    Each batch is (n, h, w, 3) in [0, 1]. Fits from ImageNet's weights lie too far apart for it (docs/experiments.md).
    """
    model, *others = fits
    if others:
        model.set_weights([np.mean(each, axis=0) for each in zip(*(fit.get_weights() for fit in fits), strict=True)])
        freeze_early(model)  # as in the fits: what is frozen keeps ImageNet's statistics, by which the refusal goes
        measure_normalisation(model, scans)
    return model

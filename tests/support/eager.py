"""TensorFlow without graphs: to compile a fit of a few steps takes several times as long as the steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf


@contextmanager
def eager() -> Iterator[None]:
    """Compute each operation as it is called; Keras's steps, callbacks, losses and optimiser are the same."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)

"""Export a CNN pre-trained on ImageNet for the Spark job: prepared scans in, its pooled last map out.

    python -m services.training backbone services/preprocessing/efficientnet-lite0.tflite
    python -m services.training backbone resnet50.tflite --network resnet50 [--weights FILE]

EfficientNet-Lite0's weights come with a package of the lock. ResNet50's are Keras's own, downloaded where the network
allows or given as a file.
"""

from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from services.training.modelling.imagenet import imagenet_weights
from services.training.modelling.network import _backbone, _fill
from shared.imaging.preprocessing import SIDE


def efficientnet_lite0(_weights: Path | None = None) -> keras.Model:
    """From scans (n, 128, 128, 3) in [0, 1] to features (n, 1280)."""
    scan = keras.Input((SIDE, SIDE, 3), name="scan")
    last = _backbone(layers.Rescaling(255 / 128, offset=-127 / 128)(scan))["head"]
    model = keras.Model(scan, layers.GlobalAveragePooling2D()(last))
    _fill(model, imagenet_weights())
    return model


def resnet50(weights: Path | None = None) -> keras.Model:
    """From scans (n, 128, 128, 3) in [0, 1] to features (n, 2048)."""
    scan = keras.Input((SIDE, SIDE, 3), name="scan")
    network = keras.applications.ResNet50(include_top=False, weights=weights or "imagenet", pooling="avg")
    return keras.Model(scan, network(keras.applications.resnet50.preprocess_input(scan * 255)))


NETWORKS = {"efficientnet-lite0": efficientnet_lite0, "resnet50": resnet50}


def export(model: keras.Model) -> bytes:
    """LiteRT graph for any number of scans at a time; weights in half precision, arithmetic in single."""
    scans = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="scan")
    run = tf.function(lambda scan: model(scan, training=False), input_signature=[scans])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()

"""DICOM data sets compressed as scanners do, by encoders that pydicom itself does not bring."""

import numpy as np
from imagecodecs import jpeg2k_encode
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless


def compress(dataset: Dataset, syntax: UID) -> None:
    """Compress a data set's pixels without loss, in place: JPEG 2000 by OpenJPEG, the rest by pydicom's plugins."""
    if syntax != JPEG2000Lossless:
        dataset.compress(syntax, generate_instance_uid=False)
        return
    pixels = dataset.pixel_array
    frames = pixels if int(dataset.get("NumberOfFrames", 1)) > 1 else pixels[np.newaxis]
    encoded = [jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k", mct=False) for frame in frames]
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax

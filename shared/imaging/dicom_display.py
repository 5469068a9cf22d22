"""Stored values to the grey levels that a viewer shows: every step after the codec, with its place in PS3.3."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydicom import Dataset

from shared.imaging.dicom_codecs import Frame, PixelFormat
from shared.imaging.dicom_palette import rgb_of_palette
from shared.imaging.dicom_values import items, lut_entries, merged, number, numbers, optional, raw, word
from shared.imaging.intensity import Mask, Pixels, Values, background, scaled, usual_range

_TRANSFORMS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Modality or VOI lookup table (PS3.3, C.11.1.1 and C.11.2.1.1)."""

    entries: Values
    first: int
    """The value that the first entry stands for."""
    bits: int

    def __call__(self, values: Values) -> Values:
        """Return the entry of every value; values beyond either end have the last there."""
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[places]


def shown(frame: Frame, dataset: Dataset, form: PixelFormat, index: int) -> Pixels:
    """Return the page of one frame: uint8 (h, w) or (h, w, 3)."""
    values = stored_values(frame, form)
    if form.photometric == "PALETTE COLOR":
        return rgb_of_palette(values, dataset)
    if form.samples == 3:
        return _colour(values, frame.is_rgb, form)
    return _grey(values, merged(dataset, index, *_TRANSFORMS), form)


def stored_values(frame: Frame, form: PixelFormat) -> Values:
    """Return the stored values: the bits from BitsStored below HighBit, signed or not (PS3.5, 8.1.1).

    Bits above may hold overlays; a codec right-justifies its values, whatever HighBit says.
    """
    values = frame.values
    if values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder("="))
    size = values.dtype.itemsize
    values = values.astype(f"u{size}")  # native order, and the bits as they are
    above = size * 8 - (form.stored if frame.precision and frame.precision <= form.stored else form.high_bit + 1)
    unused = size * 8 - form.stored
    if unused <= 0 or form.stored <= 0:
        return values.view(f"i{size}") if form.signed else values
    left = values << max(above, 0)
    return (left.view(f"i{size}") if form.signed else left) >> unused


def _colour(values: Values, is_rgb: bool, form: PixelFormat) -> Pixels:
    """RGB of 8 bits: the upper ones of deeper colour, YCbCr turned (PS3.3, C.7.6.3.1.2)."""
    eight = (values >> max(form.stored - 8, 0)).astype(np.uint8)
    if is_rgb or form.photometric not in ("YBR_FULL", "YBR_FULL_422"):
        return eight
    return np.asarray(Image.fromarray(eight, "YCbCr").convert("RGB"))


def _grey(values: Values, how: Dataset, form: PixelFormat) -> Pixels:
    """Modality transformation, values of interest, polarity; padding takes no part in it and is background."""
    hidden = _padding(values, how, form)
    table = _first_table(how, "ModalityLUTSequence", signed=form.signed)
    pixels = _of_interest(values if table is None else table(values), how, form, hidden, rescaled=table is None)
    if _is_inverted(how, form):
        pixels = 255 - pixels
    return pixels if hidden is None else background(pixels, hidden)


def _of_interest(values: Values, how: Dataset, form: PixelFormat, hidden: Mask | None, *, rescaled: bool) -> Pixels:
    """Rescale (C.11.1.1.2) with VOI lookup table (C.11.2.1.1) or window (C.11.2.1.2), or else the usual range."""
    slope, intercept = _rescale(how) if rescaled else (1.0, 0.0)
    table = _first_table(how, "VOILUTSequence", signed=form.signed or intercept < 0)
    if table is not None:
        looked_up = table(np.rint(values * slope + intercept))
        return scaled(looked_up, (0, 2**table.bits - 1))
    window = _window(how)
    if window is not None:
        return _windowed(values, slope, intercept, *window, function=word(how, "VOILUTFunction"))
    is_plain = values.dtype == np.uint8 and form.stored == 8 and rescaled and (slope, intercept) == (1.0, 0.0)
    if is_plain:
        return values.astype(np.uint8, copy=False)
    low, high = usual_range(values if hidden is None else values[~hidden])
    return scaled(values, (low, high) if slope > 0 else (high, low))


def _windowed(  # noqa: PLR0913 - the numbers of one formula
    values: Values, slope: float, intercept: float, center: float, width: float, *, function: str
) -> Pixels:
    """The linear functions as limits of the stored values, which spares an array; an unknown function is LINEAR."""
    if function == "SIGMOID":  # C.11.2.1.3.1
        with np.errstate(over="ignore"):
            return scaled(1 / (1 + np.exp(-4 * (values * slope + intercept - center) / width)), (0, 1))
    if function == "LINEAR_EXACT":  # C.11.2.1.3.2
        low, high = center - width / 2, center + width / 2
    elif width == 1:  # C.11.2.1.2.1, whose slope is a step
        return np.where(values * slope + intercept > center - 0.5, np.uint8(255), np.uint8(0))
    else:
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    return scaled(values, ((low - intercept) / slope, (high - intercept) / slope))


def _rescale(how: Dataset) -> tuple[float, float]:
    """Slope and intercept; a slope of 0, which would leave nothing, is 1 as if it were missing."""
    return number(how, "RescaleSlope", 1.0) or 1.0, number(how, "RescaleIntercept", 0.0)


def _window(how: Dataset) -> tuple[float, float] | None:
    """The first center and width that the standard allows (C.11.2.1.2.1); writers put 0 where they have none."""
    least = np.finfo(float).tiny if word(how, "VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID") else 1.0
    pairs = zip(numbers(how, "WindowCenter"), numbers(how, "WindowWidth"), strict=False)
    return next(((c, w) for c, w in pairs if c is not None and w is not None and w >= least), None)


def _is_inverted(how: Dataset, form: PixelFormat) -> bool:
    """The presentation LUT shape (C.11.6.1.2) decides, without one MONOCHROME1 (C.7.6.3.1.2)."""
    shape = word(how, "PresentationLUTShape")
    return shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else form.photometric == "MONOCHROME1"


def _padding(values: Values, how: Dataset, form: PixelFormat) -> Mask | None:
    """Where there is padding (C.7.5.1.1.2); None if there is none, or nothing else."""
    if values.dtype.kind == "f":
        value = limit = optional(how, "FloatPixelPaddingValue")
    else:
        value, limit = (_as_stored(how, f"PixelPadding{part}", form) for part in ("Value", "RangeLimit"))
    if value is None:
        return None
    low, high = sorted((value, value if limit is None else limit))
    hidden = (values >= low) & (values <= high)
    return hidden if hidden.any() and not hidden.all() else None


def _as_stored(how: Dataset, keyword: str, form: PixelFormat) -> float | None:
    """A value of the pixels' own representation: written as US by some whose pixels are signed, and the reverse."""
    value = optional(how, keyword)
    if value is None:
        return None
    bits = int(value) & 0xFFFF
    return bits - 0x10000 if form.signed and bits & 0x8000 else bits


def _first_table(how: Dataset, keyword: str, *, signed: bool) -> LookupTable | None:
    """The first item of a lookup table sequence that holds one; writers leave empty ones."""
    return next((table for item in items(how, keyword) if (table := _table(item, signed=signed))), None)


def _table(item: Dataset, *, signed: bool) -> LookupTable | None:
    descriptor, _, little_endian = raw(item, "LUTDescriptor")
    data, _, _ = raw(item, "LUTData")
    if len(descriptor) < 6 or not data:
        return None
    order = "<" if little_endian else ">"
    count, first, bits = np.frombuffer(descriptor[:6], f"{order}u2").tolist()
    entries = lut_entries(data, count or 0x10000, order)
    bits = bits if 0 < bits <= 16 and int(entries.max()) < 2**bits else max(int(entries.max()).bit_length(), 8)
    return LookupTable(entries, first - 0x10000 if signed and first & 0x8000 else first, bits)

"""Palette colour to RGB (PS3.3, C.7.6.3.1.5 and C.7.9)."""

import numpy as np
from pydicom import Dataset

from shared.errors import Reason, RejectedScan
from shared.imaging.dicom_values import lut_entries, raw
from shared.imaging.intensity import Pixels, Values

_COLOURS = ("Red", "Green", "Blue")


def rgb_of_palette(values: Values, dataset: Dataset) -> Pixels:
    """Return the colours that the stored values stand for, (h, w, 3). Raises RejectedScan without a whole palette."""
    entries = [_entries(dataset, colour) for colour in _COLOURS]
    descriptor, _, little_endian = raw(dataset, "RedPaletteColorLookupTableDescriptor")
    _, first, bits = np.frombuffer(descriptor[:6], "<u2" if little_endian else ">u2").tolist()
    first -= 0x10000 if values.dtype.kind == "i" and first & 0x8000 else 0
    largest = max(int(channel.max()) for channel in entries)
    shift = 8 if bits > 8 and largest > 255 else 0  # some write 8 bits under a descriptor that says 16
    places = values.astype(np.int64) - first
    return np.dstack([(channel >> shift).astype(np.uint8)[np.clip(places, 0, len(channel) - 1)] for channel in entries])


def _entries(dataset: Dataset, colour: str) -> Values:
    name = f"{colour}PaletteColorLookupTable"
    descriptor, _, little_endian = raw(dataset, f"{name}Descriptor")
    data, _, _ = raw(dataset, f"{name}Data")
    segmented, _, _ = raw(dataset, f"Segmented{name}Data")
    order = "<" if little_endian else ">"
    if len(descriptor) < 6 or not (data or segmented):
        raise RejectedScan(Reason.CORRUPT)
    count = int(np.frombuffer(descriptor[:2], f"{order}u2")[0]) or 0x10000
    if data:
        return lut_entries(data, count, order)
    return _expanded(np.frombuffer(segmented[: len(segmented) // 2 * 2], f"{order}u2").tolist(), count)


def _expanded(words: list[int], count: int) -> Values:
    """Entries of a segmented table: discrete, linear and indirect segments (C.7.9.2)."""
    entries: list[int] = []
    at = 0
    while at < len(words) and len(entries) < count:
        at = _segment(words, at, entries, count)
    if not entries:
        raise RejectedScan(Reason.CORRUPT)
    return np.array(entries[:count], np.uint16)


def _segment(words: list[int], at: int, entries: list[int], count: int) -> int:
    """Append one segment's entries; return where the next one starts."""
    opcode, length = words[at], words[at + 1]
    if opcode == 0:
        entries += words[at + 2 : at + 2 + length]
        return at + 2 + length
    if opcode == 1:
        entries += np.rint(np.linspace(entries[-1], words[at + 2], length + 1)[1:]).astype(int).tolist()
        return at + 3
    if opcode != 2:
        raise RejectedScan(Reason.CORRUPT)
    inner = words[at + 2] | words[at + 3] << 16
    for _ in range(length):
        if words[inner] == 2 or len(entries) > count:  # an indirect segment may not point to another
            raise RejectedScan(Reason.CORRUPT)
        inner = _segment(words, inner, entries, count)
    return at + 4

"""Values of a DICOM data set, read as tolerantly as viewers do: pydicom is strict where writers are not."""

import math

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword

_KINDS = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "US or SS": "u2"}


def raw(dataset: Dataset, keyword: str) -> tuple[bytes, str, bool]:
    """Return an element's bytes, value representation and whether they are little endian; empty bytes without one."""
    element = dataset.get_item(keyword)
    value = None if element is None else element.value
    vr = (element.VR if element is not None else None) or dictionary_VR(tag_for_keyword(keyword) or 0)
    little_endian = getattr(element, "is_little_endian", True)
    return value if isinstance(value, bytes) else b"", vr, little_endian


def numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    """Return all values of a numeric element, None for each that is no finite number; empty without values.

    Decimal strings (PS3.5, 6.2) may have a comma; binary values are in the data set's byte order.
    """
    value, vr, little_endian = raw(dataset, keyword)
    if vr in _KINDS:
        kind = np.dtype(_KINDS[vr]).newbyteorder("<" if little_endian else ">")
        values = np.frombuffer(value[: len(value) // kind.itemsize * kind.itemsize], kind).tolist()
        return [number if math.isfinite(number) else None for number in values]
    return [_number(part) for part in _parts(value)] if value else []


def number(dataset: Dataset, keyword: str, default: float) -> float:
    """Return an element's first value, or the default if there is none or it is no finite number."""
    first = next(iter(numbers(dataset, keyword)), None)
    return default if first is None else first


def optional(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's first value; None if there is none or it is no finite number."""
    return next(iter(numbers(dataset, keyword)), None)


def words(dataset: Dataset, keyword: str) -> list[str]:
    """Return all values of a text element in upper case."""
    return [part.upper() for part in _parts(raw(dataset, keyword)[0])]


def word(dataset: Dataset, keyword: str) -> str:
    """Return a text element's first value in upper case; empty without one."""
    return next(iter(words(dataset, keyword)), "")


def uid(dataset: Dataset, keyword: str) -> str | None:
    """Return a unique identifier; None without one."""
    return word(dataset, keyword) or None


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none if it is missing or empty."""
    return list(dataset[keyword].value or []) if keyword in dataset else []


def macro(dataset: Dataset, index: int, keyword: str) -> list[Dataset]:
    """Return the items of a functional group macro for one frame, its own last (PS3.3, C.7.6.16)."""
    groups = items(dataset, "SharedFunctionalGroupsSequence")
    groups += items(dataset, "PerFrameFunctionalGroupsSequence")[index : index + 1]
    return [item for group in groups for item in items(group, keyword)]


def merged(dataset: Dataset, index: int, *macros: str) -> Dataset:
    """Return the elements that hold for one frame: the data set's own, then those of these functional group macros."""
    found = [item for keyword in macros for item in macro(dataset, index, keyword)]
    if not found:
        return dataset
    result = Dataset()
    for part in (dataset, *found):
        for tag in part.keys():  # noqa: SIM118 - iterating a data set itself would convert its values
            result._dict[tag] = part.get_item(tag)
    return result


def lut_entries(data: bytes, count: int, order: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Entries of a lookup table: words, or two octets in each word, the first in the lower eight bits."""
    if len(data) >= 2 * count or len(data) < count:
        return np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")[:count].astype(np.uint16)
    words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype("<u2")
    return words.view(np.uint8)[:count].astype(np.uint16)


def _parts(value: bytes) -> list[str]:
    return [part.strip(" \0\t\r\n") for part in value.decode("latin-1").split("\\")]


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None

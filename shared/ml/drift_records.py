"""What drift is found in: scans as the pipeline knows them, and what one test says of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scans:
    """What is known of some scans, a row each."""

    embeddings: Floats
    """float32 (n, d), of the release."""
    predicted: list[str]
    """Predicted class."""
    attributes: Mapping[str, list[str]]
    """Columns such as source, manufacturer, sequence, format; empty text where unknown."""
    quality: Floats
    """float (n, q): pixel statistics, in the order of QUALITY."""

    def __len__(self) -> int:
        return len(self.predicted)

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen rows."""
        kept = np.flatnonzero(chosen)
        return type(self)(
            embeddings=self.embeddings[kept],
            predicted=[self.predicted[i] for i in kept],
            attributes={name: [values[i] for i in kept] for name, values in self.attributes.items()},
            quality=self.quality[kept],
        )

    def to_bytes(self) -> bytes:
        """Return the scans as NumPy's own archive format, without pickles."""
        archive = io.BytesIO()
        columns: dict[str, Any] = {
            f"attribute_{name}": np.array(values, np.str_) for name, values in self.attributes.items()
        }
        np.savez_compressed(
            archive,
            embeddings=self.embeddings.astype(np.float16),
            predicted=np.array(self.predicted, np.str_),
            quality=self.quality.astype(np.float32),
            **columns,
        )
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the scans from `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(
                embeddings=archive["embeddings"].astype(np.float32),
                predicted=archive["predicted"].tolist(),
                attributes={
                    name.removeprefix("attribute_"): archive[name].tolist()
                    for name in archive.files
                    if name.startswith("attribute_")
                },
                quality=archive["quality"],
            )

    def of(self, predicted: str) -> Self:
        """Return the rows of one predicted class."""
        return self.rows(np.array(self.predicted) == predicted)


QUALITY: Final = ("mean", "std", "skewness", "kurtosis")
"""Columns of `features` that say how an image is exposed and how sharp its tones are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One test of the window against the reference."""

    about: str
    """`inputs: Cancer`, `case mix`, `source`, `quality: std`, ..."""
    p_value: float
    effect: float
    """AUC of telling window from reference for inputs; largest difference of shares or of means in stds elsewhere."""

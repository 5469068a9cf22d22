"""Blocks of sources that a fit never saw: tumours and healthy heads together, alike in skull, so that neither source
nor stripping tells the label.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Block:
    """Sources to leave out together."""

    name: str
    tumours: tuple[str, ...]
    healthy: tuple[str, ...]

    def rows(self, table: pd.DataFrame) -> np.ndarray:
        """Return the mask of the scans that belong to the block."""
        tumour = table["source"].isin(self.tumours) & (table["label"] == 1)
        healthy = table["source"].isin(self.healthy) & (table["label"] == 0)
        return (tumour | healthy).to_numpy()


BLOCKS = (
    Block("A", ("rsna-t1c", "brats-t2-flair"), ("ds002748", "oasis")),
    Block("B", ("br35h",), ("brisc", "open-ms")),
    Block("C", ("kaggle",), ("kaggle",)),
)
"""A is stripped; B and C have skulls. `rsna-t1c` and `brats-t2-flair` share people. In B, Kaggle's healthy scans, most
of which come from Br35H, are trained on, and in C Br35H's tumours are: both make the block harder, not easier.
"""

OTHER_LESIONS = {"open-ms": "multiple sclerosis"}
"""Sources whose people have no tumour but something else, and what: they are reported as a class of their own too."""


def present(table: pd.DataFrame) -> list[Block]:
    """Return the blocks of which the data hold tumours and healthy scans."""
    return [block for block in BLOCKS if table["label"][block.rows(table)].nunique() == 2]

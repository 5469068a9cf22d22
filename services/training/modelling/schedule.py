"""How long and how fast to learn."""

from dataclasses import asdict, dataclass
from pathlib import Path

from shared.imaging.preprocessing import SIDE

PARTS = {
    "lesions": "put into healthy heads",
    "look-alikes": "of lesions, in healthy heads",
    "boxes": "round real tumours: where they are, transplants, enhancement taken away",
    "tones": "of other scanners and sequences, and contrast given to T1",
    "stripping": "of heads with a skull",
    "labels": "of the image: a draw gets one by its source alone, and nothing else can be learnt (the control)",
}
"""What a fit can be made without, to see what it is worth."""


@dataclass(frozen=True)
class Schedule:
    """Epochs of `steps` batches each, the last fifth of them on whole images, those before on `small` ones."""

    epochs: int
    steps: int = 120
    batch: int = 32
    rate: float = 8e-4
    kept: float = 1.0
    """The share of the rate that is left at the end. A fit keeps it all: as the rate falls, a fit learns its sources by
    heart and finds fewer tumours on others; the weights' average settles it instead (docs/experiments.md)."""
    small: int = 96
    """Pixels a side: nearly twice the images per second, and sizes that the network sees must not matter to it."""
    seed: int = 0
    start: Path | None = None
    """Weights of an earlier run to go on from, instead of ImageNet's."""
    without: str = ""
    """The one of `PARTS` that this fit does without."""

    def side(self, epoch: int) -> int:
        """Return pixels a side of the images in this epoch."""
        return self.small if epoch < self.epochs - max(self.epochs // 5, 1) else SIDE

    def lines(self) -> list[str]:
        """Return what distinguishes one schedule from another."""
        start = self.start.read_bytes().hex() if self.start else ""
        return [f"{name}={value}" for name, value in asdict(self).items() if name != "start"] + [start]


FINETUNING = Schedule(epochs=0, rate=2e-4, kept=0.02)
"""The last layer alone. Epochs of the whole network go at a quarter of a fit's rate, falling: four are some 15,000
draws."""

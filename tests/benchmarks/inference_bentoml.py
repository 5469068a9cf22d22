"""The released model behind BentoML, as its guide has it, with a worker for each core."""

from pathlib import Path

import bentoml

from services.inference.served_models import BUNDLED
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import read_release


@bentoml.service(workers="cpu_count")
class Scan:
    """Decode, prepare, predict."""

    def __init__(self) -> None:
        """Load the release."""
        self.model = read_release(BUNDLED)

    @bentoml.api
    def predict(self, file: Path) -> dict[str, object]:
        """The answer for one file."""
        prediction = self.model.predict(prepare(decode(file.read_bytes()).pages[0]))
        return {"prediction": self.model.predicted_class(prediction), "probability": prediction.probability}

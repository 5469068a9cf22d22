"""The released model behind LitServe, as its guide has it, with a worker for each core."""

import argparse

import litserve as ls
from fastapi import Request

from services.inference.served_models import BUNDLED
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import Prediction, read_release


class ScanAPI(ls.LitAPI):
    """Decode, prepare, predict."""

    def setup(self, device: str) -> None:
        """Load the release."""
        self.model = read_release(BUNDLED)

    def decode_request(self, request: Request) -> bytes:
        """The file of the form, which LitServe hands over in the request's place."""
        return request["file"].file.read()

    def predict(self, content: bytes) -> Prediction:
        """The prediction for one file."""
        return self.model.predict(prepare(decode(content).pages[0]))

    def encode_response(self, prediction: Prediction) -> dict[str, object]:
        """The answer."""
        return {"prediction": self.model.predicted_class(prediction), "probability": prediction.probability}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.inference_litserve", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("workers", type=int)
    arguments = parser.parse_args()
    server = ls.LitServer(ScanAPI(), accelerator="cpu", workers_per_device=arguments.workers)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()

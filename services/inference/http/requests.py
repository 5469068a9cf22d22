"""What every protocol's routes have in common.

Routes call these functions instead of declaring them as dependencies: FastAPI resolves three of those in the time that
all else of a request outside the worker takes.
"""

from fastapi import Request

from services.inference.predictor import Predictor
from shared.ml.model import Model

MODEL_NAME = "scanflow"
"""Name of the model in other systems' protocols."""


def predictor_of(request: Request) -> Predictor:
    """Return the predictor of the app that the request came to."""
    predictor: Predictor = request.app.state.predictor
    return predictor


def model_of(request: Request) -> Model:
    """Return the release that is served. Raises NotReady before there is one."""
    return predictor_of(request).models.current

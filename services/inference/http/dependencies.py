"""What routes ask FastAPI for."""

from typing import Annotated

from fastapi import Depends, Request

from services.inference.predictor import Predictor

MODEL_NAME = "scanflow"
"""Name of the model in other systems' protocols."""


async def _predictor(request: Request) -> Predictor:
    """Return the predictor of the app that the request came to."""
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorOfApp = Annotated[Predictor, Depends(_predictor)]

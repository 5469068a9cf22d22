"""What people write first: FastAPI round Keras' `model.predict`. The network is the released one's architecture."""

import io

import keras
import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

from services.training.modelling.network import network
from shared.imaging.preprocessing import prepare

model: keras.Model = network()
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, float]:
    """Decode, prepare, `model.predict`."""
    pixels = np.asarray(Image.open(io.BytesIO(await file.read())).convert("RGB"))
    outputs = model.predict(prepare(pixels)[np.newaxis], verbose=0)
    return {"probability": float(1 / (1 + np.exp(-np.ravel(outputs["logit"])[0])))}

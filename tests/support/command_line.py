"""Prompts and images of the command line's tests."""

import numpy as np
from PIL import Image

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"


def image(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))

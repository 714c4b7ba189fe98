"""The smallest codec there is: fewer levels, then zlib. `rdc eval examples/quantiser.py:Quantiser --data DIR`."""

import zlib

import numpy as np


class Quantiser:
    settings = (1, 2, 3, 4, 5)  # bits a sample

    def encode(self, image, setting):
        shape = np.array([setting, *image.shape[:2]], "<u4").tobytes()
        return shape + zlib.compress((image >> (8 - setting)).tobytes())

    def decode(self, data):
        setting, height, width = np.frombuffer(data[:12], "<u4").tolist()
        levels = np.frombuffer(zlib.decompress(data[12:]), np.uint8).reshape(height, width, 3)
        return (levels << (8 - setting)) + (1 << (7 - setting))

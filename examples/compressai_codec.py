"""A CompressAI model as a codec with whole files: `rdc eval examples/compressai_codec.py:Codec --data DIR`.

`Own` takes a checkpoint of your own: CHECKPOINT=mine.pth.tar rdc eval examples/compressai_codec.py:Own --data DIR.
"""

import os
import struct

import numpy as np
import torch
from compressai.models import MeanScaleHyperprior
from compressai.ops import compute_padding
from compressai.zoo import mbt2018_mean
from torch.nn.functional import pad


class Codec:
    name, version, settings = "mbt2018-mean", "CompressAI, trained for MSE", (1, 2, 3, 4, 5, 6, 7, 8)

    def __init__(self, load=lambda quality: mbt2018_mean(quality, pretrained=True).eval()):
        self.models = {quality: load(quality) for quality in self.settings}
        self.parameters = max(sum(p.numel() for p in model.parameters()) for model in self.models.values())

    @torch.inference_mode()
    def encode(self, image, setting):
        height, width = image.shape[:2]
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        coded = self.models[setting].compress(pad(x, compute_padding(height, width, min_div=64)[0]))
        y, z = (strings[0] for strings in coded["strings"])
        return struct.pack("<BHHI", setting, height, width, len(y)) + y + z

    @torch.inference_mode()
    def decode(self, data):
        setting, height, width, y_bytes = struct.unpack_from("<BHHI", data)
        body, shape = data[9:], (-(-height // 64), -(-width // 64))
        x = self.models[setting].decompress([[body[:y_bytes]], [body[y_bytes:]]], shape)["x_hat"]
        pixels = pad(x, compute_padding(height, width, min_div=64)[1])[0].permute(1, 2, 0)
        return np.asarray((pixels * 255).clamp(0, 255).round().to(torch.uint8))

    def decode_parts(self, data):
        setting, height, width, _ = struct.unpack_from("<BHHI", data)
        model, rows, columns = self.models[setting], -(-height // 64), -(-width // 64)
        z = torch.zeros(1, model.N, rows, columns)
        y = torch.zeros(1, model.M, 4 * rows, 4 * columns)
        return {"hyper_synthesis": lambda: model.h_s(z), "synthesis": lambda: model.g_s(y)}


def read_checkpoint(path):
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = MeanScaleHyperprior.from_state_dict(checkpoint.get("state_dict", checkpoint)).eval()
    model.update(force=True)
    return model


class Own(Codec):
    name, version, settings = "mine", "a checkpoint of my own", (1,)

    def __init__(self):
        super().__init__(lambda quality: read_checkpoint(os.environ["CHECKPOINT"]))

"""A CompressAI model through our protocol and through CompressAI's own evaluation: rates and PSNR must agree.

Run with the Python of an environment that has CompressAI; of rdcodec it needs the sources alone:

    PYTHONPATH=src python benchmarks/compressai_eval.py --data KODAK -o docs/results/compressai-eval.json

The weights are random, from a seed, and scaled so that symbols are far from all zero: both evaluations see the same
real bitstreams, and whether they agree does not depend on how good the pictures are.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from statistics import fmean

import compressai_import
import torch
from compressai.utils.eval_model.__main__ import eval_model
from compressai.zoo import image_models

from rdcodec.measure.rd import ImageFolder, evaluate, fingerprint, means

ROOT = Path(__file__).parents[1]
HEADER_BYTES = 9  # of examples/compressai_codec.py, which CompressAI's evaluation does not count
MODEL, GAIN = "mbt2018-mean", 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=4, help="how many of them")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = ImageFolder(arguments.data)
    images = {name: folder[name] for name in list(folder)[: arguments.pictures]}
    example = load_example()
    example.Codec.settings = (1, 5)
    codec = example.Codec(random_model)
    rows = evaluate(codec, images, codec.settings)
    record = {
        "model": f"{MODEL} of CompressAI {compressai_import.compressai.__version__}, random weights, seed = quality",
        "torch": torch.__version__,
        "pictures": {"names": list(images), "sha256": fingerprint(images)},
        "header_bytes": HEADER_BYTES,
        "rows": [],
    }
    for ours in means(rows):
        quality = int(ours["setting"])
        files = [arguments.data / name for name in images]
        theirs = eval_model(
            codec.models[quality], "", arguments.data, files, architecture=MODEL, half=False, per_image=False
        )
        header = fmean(8 * HEADER_BYTES / (row.width * row.height) for row in rows if row.setting == quality)
        record["rows"].append(
            {
                "quality": quality,
                "rdcodec_bpp": round(ours["bpp"], 6),
                "rdcodec_bpp_without_header": round(ours["bpp"] - header, 6),
                "compressai_bpp": round(theirs["bpp"], 6),
                "rdcodec_psnr_db": round(ours["psnr_db"], 5),
                "compressai_psnr_db": round(theirs["psnr-rgb"], 5),
                "rdcodec_ms_ssim": round(ours["ms_ssim"], 6),
                "compressai_ms_ssim": round(theirs["ms-ssim-rgb"], 6),
            }
        )
        print(json.dumps(record["rows"][-1]))
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


def load_example():
    spec = importlib.util.spec_from_file_location("compressai_codec", ROOT / "examples" / "compressai_codec.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_model(quality: int) -> torch.nn.Module:
    torch.manual_seed(quality)
    model = image_models[MODEL](quality=quality).eval()
    with torch.no_grad():
        model.g_a[-1].weight.mul_(GAIN)  # latents of several steps
        model.g_s[-1].bias.add_(0.5)  # grey, so that not every sample is cut at black
    model.update(force=True)
    return model


if __name__ == "__main__":
    main()

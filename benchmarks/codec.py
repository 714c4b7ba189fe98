"""Where the time of a codec goes: encode, decode, their parts, roofline shares, a cold start, and peak memory.

    python benchmarks/codec.py --model I --data FOLDER [--quality 50] [--threads 2] [--json FILE]

Medians over repeats after warm-up, summed over the pictures; MP/s are true pixels. Run it on an idle machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from rdcodec.codec import rans
from rdcodec.codec.container import unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Codec, load
from rdcodec.measure.bench import matmul_gflop_per_s, seconds_per_call
from rdcodec.measure.flops import count_parts
from rdcodec.measure.machine import machine
from rdcodec.models.base import blueprint


def entropy_networks(codec: Codec, height: int, width: int) -> Callable[[], None]:
    """One run of the integer networks for a picture of that size, on zeros."""
    (m, rows, columns), (n, z_rows, z_columns) = codec.model.latent_shapes(height, width)
    features = codec.model.config.entropy.features
    shapes = {
        "hyper_synthesis": (n, z_rows, z_columns),
        "first": (features, rows, columns),
        "context": (m, rows, columns),
        "second": (2 * m + features, rows, columns),
    }
    inputs = {
        name: torch.zeros(1, *shape).contiguous(memory_format=torch.channels_last) for name, shape in shapes.items()
    }

    def run() -> None:
        for name, chain in codec.entropy.chains.items():
            chain(inputs[name])

    return run


def decode_symbols(codec: Codec, stream: bytes, indexes: Sequence[np.ndarray]) -> None:
    decoder = rans.Decoder(stream, codec.tables)
    for part in indexes:
        decoder.decode(part)
    decoder.finish()


def measure(codec: Codec, image: np.ndarray, quality: float, repeats: int) -> dict[str, float]:
    """Seconds of every part for one picture."""
    coded = codec.encode(image, quality)
    header, stream = unpack(coded.data)
    symbols, indexes = coded.symbols, coded.indexes
    analysed = codec.analyse(image)

    def timed(call) -> float:
        return seconds_per_call(call, repeats)

    with torch.inference_mode():
        networks = timed(entropy_networks(codec, *image.shape[:2]))
    return {
        "encode": timed(lambda: codec.encode(image, quality)),
        "encode: analysis": timed(lambda: codec.analyse(image)),
        "encode: hyper, context and symbols": timed(lambda: codec.code(analysed, quality)),
        "encode: rANS": timed(lambda: rans.encode(np.concatenate(symbols), np.concatenate(indexes), codec.tables)),
        "decode": timed(lambda: codec.decompress(coded.data)),
        "decode: latents": timed(lambda: codec.decode_latents(header, stream)),
        "decode: rANS": timed(lambda: decode_symbols(codec, stream, indexes)),
        "decode: entropy networks": networks,
        "decode: synthesis to uint8": timed(
            lambda: codec.synthesise(coded.y_hat, quality, header.height, header.width)
        ),
    }


def cold_decompress_s(model: str, data: bytes) -> float:
    """Seconds from the start of `rdc decompress` to its end, picture written; the second of two runs."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "photo.rdc").write_bytes(data)
        command = [sys.executable, "-m", "rdcodec", "decompress", "photo.rdc", "-o", "photo.png", "--force"]
        if Path(model).is_dir():
            command += ["-m", str(Path(model).resolve())]
        return seconds_per_call(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True), 1, 1)


def peak_memory_mb(model: str) -> dict[str, float]:
    """Peak resident memory of fresh processes that encode and decode 24 megapixels."""
    script = (
        "import sys, resource, numpy as np, rdcodec\n"
        "codec = rdcodec.load(sys.argv[1])\n"
        "tile = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)\n"
        "image = np.kron(tile, np.ones((250, 250, 1), np.uint8))\n"
        "if sys.argv[2] == 'encode':\n"
        "    open(sys.argv[3], 'wb').write(codec.compress(image, 50))\n"
        "else:\n"
        "    codec.decompress(open(sys.argv[3], 'rb').read())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "large.rdc")

        def run(what: str) -> float:
            command = [sys.executable, "-c", script, model, what, file]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        return {what: run(what) for what in ("encode", "decode")}


def report(codec: Codec, images: list[np.ndarray], quality: float, repeats: int) -> dict[str, float]:
    """Print the table of one quality; its seconds are sums over the pictures."""
    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
    sums: dict[str, float] = {}
    for image in images:
        for name, seconds in measure(codec, image, quality, repeats).items():
            sums[name] = sums.get(name, 0.0) + seconds
    print(f"\nquality {quality:g}")
    for name, seconds in sums.items():
        share = seconds / sums[name.split(":")[0]]
        milliseconds = 1e3 * seconds / len(images)
        print(f"  {name:38s}{milliseconds:8.2f} ms {megapixels / seconds:8.1f} MP/s {share:6.0%}")
    return sums


def report_roofline(codec: Codec, images: list[np.ndarray], sums: dict[str, float]) -> None:
    """Print achieved speeds of the decoder's networks against the machine's own matrix product."""
    counted = blueprint(codec.model.config)
    gflop = {"entropy networks": 0.0, "synthesis to uint8": 0.0}
    for image in images:
        for part in count_parts(counted.decode_parts(*image.shape[:2]), image.shape[0] * image.shape[1]):
            gflop["synthesis to uint8" if part.name == "synthesis" else "entropy networks"] += 2e-9 * part.macs
    for name, dtype in (("entropy networks", torch.float32), ("synthesis to uint8", codec.dtype)):
        peak = matmul_gflop_per_s(codec.device, dtype)
        speed = gflop[name] / sums[f"decode: {name}"]
        format = str(dtype).removeprefix("torch.")
        print(f"  {name}: {speed:.0f} GFLOP/s, {speed / peak:.0%} of a {format} matrix product ({peak:.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="I")
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--quality", type=float, nargs="*", default=[10, 50, 85])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    codec = load(arguments.model)
    images = [read_image(path) for path in sorted(arguments.data.iterdir()) if path.suffix in (".png", ".webp")]
    record: dict[str, object] = {"machine": machine(), "model": codec.info.tag, "threads": torch.get_num_threads()}
    print(f"model {codec.info.tag}, {len(images)} pictures, {torch.get_num_threads()} threads, {codec.dtype}")
    for quality in arguments.quality:
        record[f"q{quality:g}"] = sums = report(codec, images, quality, arguments.repeats)
        report_roofline(codec, images, sums)
    record["cold_decompress_s"] = cold = cold_decompress_s(arguments.model, codec.compress(images[0], 50))
    record["peak_memory_mb_24mp"] = memory = peak_memory_mb(arguments.model)
    print(f"\nrdc decompress, cold: {cold:.2f} s")
    print(f"peak memory, 24 megapixels: encode {memory['encode']:.0f} MB, decode {memory['decode']:.0f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

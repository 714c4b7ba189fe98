"""Classical codecs that are programs on the PATH: mozjpeg, cjxl, BPG, VVenC, VTM.

Two functions for each between uint8 RGB (height, width, 3) and file bytes, and one for its version, which raises
NeedsModel where a program is missing. VVenC and VTM write raw streams of YCbCr samples: 10 bits, BT.709, full range,
so that the conversion costs little; before the stream come 4 bytes of ours, width and height.
"""

from __future__ import annotations

import os
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec.codec.image import Pixels, encode_image, read_image
from rdcodec.errors import BadInput, NeedsModel
from rdcodec.measure.tools import find_tool, run_on_files, run_tool

Plane = NDArray[np.floating]

BPG_MAX_QP, VVC_MAX_QP = 51, 63
VTM_CFG = "RDCODEC_VTM_CFG"
"""Environment variable that names VTM's encoder_intra_vtm.cfg."""
KR, KB = 0.2126, 0.0722  # BT.709
LEVELS = 1023  # 10 bits
_SIZE = struct.Struct("<HH")


def mozjpeg_encode(image: Pixels, setting: int) -> bytes:
    """JPEG file by mozjpeg's cjpeg at a quality."""
    words = ("cjpeg", "-quality", str(setting), "-sample", "2x2", "-tune-psnr", "-outfile", "{output}.jpg")
    return run_on_files([*words, "{input}.ppm"], encode_image(image, "ppm"))


def mozjpeg_version() -> str:
    """Its version. Other projects call their encoder cjpeg too."""
    printed = run_tool(["cjpeg", "-version"])
    if "mozjpeg" not in printed:
        raise NeedsModel("mozjpeg: the cjpeg on the PATH is another one; put that of mozjpeg before it")
    return _line(printed, "mozjpeg")


def cjxl_encode(image: Pixels, setting: int) -> bytes:
    """JPEG XL file by cjxl at a quality."""
    command = ["cjxl", "{input}.ppm", "{output}.jxl", "-q", str(setting), "-e", "7", "--num_threads=1"]
    return run_on_files(command, encode_image(image, "ppm"))


def cjxl_decode(data: bytes) -> Pixels:
    """The picture of a JPEG XL file by djxl."""
    return read_image(run_on_files(["djxl", "{input}.jxl", "{output}.ppm", "--num_threads=1"], data))


def cjxl_version() -> str:
    """Its version."""
    find_tool("djxl")
    return _line(run_tool(["cjxl", "--version"]), "cjxl")


def bpg_encode(image: Pixels, setting: int) -> bytes:
    """BPG file, 4:4:4, at QP 51 - setting."""
    qp = str(BPG_MAX_QP - setting)
    words = ("bpgenc", "-m", "9", "-f", "444", "-b", "8", "-c", "ycbcr", "-q", qp, "-o", "{output}.bpg")
    return run_on_files([*words, "{input}.png"], encode_image(image, "png"))


def bpg_decode(data: bytes) -> Pixels:
    """The picture of a BPG file."""
    return read_image(run_on_files(["bpgdec", "-o", "{output}.png", "{input}.bpg"], data))


def bpg_version() -> str:
    """Its version, which it prints with its help."""
    find_tool("bpgdec")
    return _line(run_tool(["bpgenc"], may_fail=True), "BPG Image Encoder")


def vvenc_encode(image: Pixels, setting: int) -> bytes:
    """VVC stream, 4:2:0, at QP 63 - setting, after width and height."""
    height, width = (side + side % 2 for side in image.shape[:2])
    command = ["vvencapp", "--input", "{input}.yuv", "--size", f"{width}x{height}", "--format", "yuv420_10"]
    command += ["--framerate", "1", "--frames", "1", "--intraperiod", "1", "--preset", "slow", "--threads", "1"]
    command += ["--qpa", "0", "--qp", str(VVC_MAX_QP - setting), "--output", "{output}.266"]
    return _size_of(image) + run_on_files(command, yuv_bytes(image, halved=True))


def vvenc_decode(data: bytes) -> Pixels:
    """The picture of a file of `vvenc_encode`."""
    height, width, stream = _split_size(data)
    samples = run_on_files(["vvdecapp", "--bitstream", "{input}.266", "--output", "{output}.yuv"], stream)
    return picture_of_yuv(samples, height, width, halved=True)


def vvenc_version() -> str:
    """Its version."""
    find_tool("vvdecapp")
    return _line(run_tool(["vvencapp", "--version"]), "version")


def vtm_encode(image: Pixels, setting: int) -> bytes:
    """VVC stream by the reference encoder, 4:4:4, at QP 63 - setting, after width and height."""
    height, width = image.shape[:2]
    command = ["EncoderApp", "-c", _vtm_cfg(), "-i", "{input}.yuv", "-b", "{output}.bin", "-o", os.devnull]
    command += ["-wdt", str(width), "-hgt", str(height), "-fr", "1", "-f", "1", "-q", str(VVC_MAX_QP - setting)]
    command += ["--InputBitDepth=10", "--InternalBitDepth=10", "--InputChromaFormat=444", "--ConformanceWindowMode=1"]
    return _size_of(image) + run_on_files(command, yuv_bytes(image, halved=False))


def vtm_decode(data: bytes) -> Pixels:
    """The picture of a file of `vtm_encode`."""
    height, width, stream = _split_size(data)
    samples = run_on_files(["DecoderApp", "-b", "{input}.bin", "-o", "{output}.yuv", "-d", "10"], stream)
    return picture_of_yuv(samples, height, width, halved=False)


def vtm_version() -> str:
    """Its version, which it prints with its help."""
    find_tool("DecoderApp")
    printed = run_tool(["EncoderApp"], may_fail=True)
    _vtm_cfg()
    return _line(printed, "Version")


def yuv_bytes(image: Pixels, halved: bool) -> bytes:
    """Planes Y, Cb, Cr of 10 bits in 16, little-endian; chroma halved by means of 2x2, odd sides replicated first."""
    if halved:
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
    r, g, b = np.moveaxis(image.astype(np.float32) / 255, -1, 0)
    luma = KR * r + (1 - KR - KB) * g + KB * b
    chroma = [(b - luma) / (2 - 2 * KB) + 0.5, (r - luma) / (2 - 2 * KR) + 0.5]
    if halved:
        chroma = [(c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2]) / 4 for c in chroma]
    planes = (np.rint(plane * LEVELS).clip(0, LEVELS).astype("<u2") for plane in (luma, *chroma))
    return b"".join(plane.tobytes() for plane in planes)


def picture_of_yuv(samples: bytes, height: int, width: int, halved: bool) -> Pixels:
    """The picture of the planes of `yuv_bytes`; halved chroma is enlarged bicubically. BadInput for a wrong length."""
    rows, columns = (height + height % 2, width + width % 2) if halved else (height, width)
    small = (rows // 2, columns // 2) if halved else (rows, columns)
    values = np.frombuffer(samples, "<u2").astype(np.float32) / np.float32(LEVELS)
    if values.size != rows * columns + 2 * small[0] * small[1]:
        raise BadInput(f"{len(samples)} bytes of samples are no picture of {width}x{height}; check the decoder")
    luma = values[: rows * columns].reshape(rows, columns)
    chroma = np.split(values[rows * columns :], 2)
    blue, red = (_enlarged(plane.reshape(small), rows, columns) - np.float32(0.5) for plane in chroma)
    r, b = luma + (2 - 2 * KR) * red, luma + (2 - 2 * KB) * blue
    g = (luma - KR * r - KB * b) / (1 - KR - KB)
    pixels = np.rint(255 * np.stack([r, g, b], axis=-1)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[:height, :width])


def _enlarged(plane: Plane, rows: int, columns: int) -> Plane:
    if plane.shape == (rows, columns):
        return plane
    resized = Image.fromarray(plane).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32)


def _size_of(image: Pixels) -> bytes:
    return _SIZE.pack(image.shape[1], image.shape[0])


def _split_size(data: bytes) -> tuple[int, int, bytes]:
    width, height = _SIZE.unpack_from(data)
    return height, width, data[_SIZE.size :]


def _vtm_cfg() -> str:
    found = os.environ.get(VTM_CFG)
    if not found:
        raise NeedsModel(f"vtm: set {VTM_CFG} to the path of VTM's encoder_intra_vtm.cfg")
    return found


def _line(printed: str, word: str) -> str:
    """The line of a program's output that tells its version."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return next((line for line in lines if word in line), lines[0] if lines else "version not told")

"""The process that measures one model: a job as JSON on stdin, and on stdout a JSON object a line.

{} says that a pass is done; the last is {"done": ...} or {"error": text, "exit_code": number}. `speed.py` starts it.

A pass codes a picture once and times each part. Whole files: `analyse` and `code`, `decode_latents` and
`synthesise`, as `Codec` chains them, and the coder alone on the same symbols; what is left of `code` and
`decode_latents` without the coder are the entropy networks and what surrounds them. Networks alone: each of
`decode_parts`, and what only the encoder runs before them.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from rdcodec import _native
from rdcodec.codec import engine, native_engine, rans
from rdcodec.codec.container import unpack
from rdcodec.codec.image import Pixels, read_image
from rdcodec.codec.pipeline import DEFAULT_QUALITY, Codec
from rdcodec.errors import RdcError, UsageError, is_out_of_memory
from rdcodec.exact.arithmetic import exact_arithmetic
from rdcodec.measure.bench import roofline, seconds_per_call, summarise, timed
from rdcodec.measure.codecs import Subject, foreign_subject
from rdcodec.measure.cost import count_model
from rdcodec.measure.flops import count_parts
from rdcodec.measure.foreign import POINT_BPP
from rdcodec.measure.rd import Coder, ImageFolder, fingerprint
from rdcodec.measure.speed import Peak, Setting, Task
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.blocks import pad_to_multiple
from rdcodec.models.config import ModelConfig, config_sha256
from rdcodec.models.precision import fast_dtype, pick_device
from rdcodec.models.sizes import HYPER_STRIDE, STRIDE
from rdcodec.models.weights import Weights, find_model, is_folder, read_weights, weights_sha256

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BF16_KERNELS = ("bf16", "amx")
WITHIN = {"sse41": "baseline", "avx2": "avx2", "avx512": "avx512"}  # kernels of the core within a limit
PHOTO = Path(__file__).parents[1] / "data" / "astronaut.png"
WARM_UP = 2
SLOW_S = 3.0  # a pass that takes longer warms up once

Pass = dict[str, float]  # seconds of each part: "encode: ..." and "decode: ..."
Parts = Mapping[str, NDArray[np.float64]]  # seconds of each part, all pictures together, by repeat


def main() -> None:
    """Answer one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle, which then ends this
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidily
    job = json.load(sys.stdin)
    setting = Setting(**job["setting"])
    engine.set_threads(setting.threads)
    torch.set_num_threads(setting.threads)
    try:
        with torch.inference_mode():
            done = ANSWERS[sys.argv[1]](job, setting)
    except RdcError as error:
        _say({"error": str(error), "exit_code": error.exit_code})
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _say({"error": f"{job.get('model')}: out of memory: choose a smaller --size", "exit_code": 1})
    else:
        _say({"done": done})


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def find_peak(job: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """The fields of a Peak: float32, in which entropy networks run, and the format of the transforms."""
    device = pick_device(setting.device)
    dtype = setting.dtype
    if dtype == "auto":  # a limit of instructions leaves no bfloat16
        dtype = "bf16" if not setting.isa and fast_dtype(device) == torch.bfloat16 else "fp32"
    found = {name: roofline(device, FORMATS[name]) for name in sorted({"fp32", dtype})}
    _say({})
    return {"dtype": dtype, "gflop_per_s": {name: speed for name, (speed, _) in found.items()}, "side": found[dtype][1]}


def measure_model(job: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """What a Result says of this model, beside its machine."""
    model, task, peak = job["model"], Task(**job["task"]), Peak(**job["peak"])
    config, path = find_model(model)
    coded = path is not None and not task.networks
    device = pick_device(setting.device)
    kernels = None
    if coded and device.type == "cpu" and setting.engine == "auto" and native_engine.runs(config):
        kernels = pick_kernels(setting)
        peak = replace(peak, dtype="bf16" if kernels in BF16_KERNELS else "fp32")
    dtype = FORMATS[peak.dtype]
    images, dataset = pictures(task)
    memory = PeakMemory(device)
    weights = read_weights(path) if path else None
    if weights and coded:
        codec = Codec(weights, engine="native") if kernels else load_codec(weights, device, dtype)
        prepare = partial(file_pass, codec, task.quality)
    else:
        prepare = partial(network_pass, load_networks(config, weights, device, dtype), dtype)
    parts = add_up([repeat(prepare(image), task.repeats) for image in images.values()])
    peak_mib = memory.mib()
    sums = totals(parts, coded)
    shapes = [image.shape[:2] for image in images.values()]
    work = decoder_work(config, shapes, coded)
    if config.lmbda is not None or not coded:
        quality = None
    else:
        quality = DEFAULT_QUALITY if task.quality is None else task.quality
    return {
        "codec": config.name,
        "tag": weights.tag if weights else "random weights",
        "dataset": dataset,
        "setting": quality,
        "values": {
            "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(),
            "engine": "native" if kernels else "torch",
            "kernels": kernels,
            "dtype": peak.dtype,
            "threads": setting.threads,
            "isa": setting.isa or None,
            "coded": coded,
            "random_weights": weights is None,
            **speeds(sums, shapes),
            "repeats": task.repeats,
            "kflops_per_px": round(count_model(config).kflops_per_px, 1),
            **achieved(work, peak, sums["decode networks"]),
            "matrix_product_gflop_per_s": short(peak.gflop_per_s[peak.dtype]),
            "matrix_product_side": peak.side,
            "peak_memory_mib": peak_mib,
            "cold_s": cold_s(weights, images, model, setting) if weights and coded and task.cold else None,
        },
        "rows": rows(sums | parts, work, peak, len(images)),
        "provenance": {
            "dataset_sha256": fingerprint(images),
            "config_sha256": config_sha256(config),
            "weights_sha256": weights_sha256(path) if path else None,
        },
    }


def measure_foreign(job: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """What a Result says of a codec that is not ours: whole files, and its decoder's networks where it shows them."""
    task = Task(**job["task"])
    images, dataset = pictures(task)
    device = pick_device(setting.device)
    memory = PeakMemory(device, children=bool(job["foreign"]["commands"]))
    subject = foreign_subject(**job["foreign"], device=device.type)
    image = next(iter(images.values()))
    point = nearest_setting(subject, image)
    parts = add_up([repeat(foreign_pass(subject.coder, picture, point), task.repeats) for picture in images.values()])
    peak_mib = memory.mib()
    networks, kflops_per_px = foreign_networks(subject.coder, images, point, task.repeats)
    if networks:
        parts |= {"decode networks": sum_of(networks, networks), **networks}
    return {
        "codec": subject.name,
        "tag": subject.tag,
        "dataset": dataset,
        "setting": None,  # as `rdc eval` keeps it: other codecs' scales are not those of ours
        "values": {
            "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(),
            "threads": setting.threads,
            "isa": setting.isa or None,
            "coded": True,
            "random_weights": False,
            "at_setting": point,
            **speeds(parts, [picture.shape[:2] for picture in images.values()]),
            "repeats": task.repeats,
            **({"kflops_per_px": kflops_per_px} if networks else {}),
            "peak_memory_mib": peak_mib,
        },
        "rows": rows(parts, {}, None, len(images)),
        "provenance": {"dataset_sha256": fingerprint(images)},
    }


ANSWERS = {"peak": find_peak, "model": measure_model, "foreign": measure_foreign}


# What runs


def nearest_setting(subject: Subject, image: Pixels) -> float | None:
    """Of a codec's settings the one whose file is nearest to `POINT_BPP`."""
    if len(subject.settings) == 1:
        return subject.settings[0]
    bits = 8 / (image.shape[0] * image.shape[1])
    return min(subject.settings, key=lambda s: abs(len(subject.coder.encode(image, s)) * bits - POINT_BPP))


def foreign_pass(coder: Coder[Any], image: Pixels, setting: float | None) -> Callable[[], Pass]:
    """A pass of whole files, from array to bytes and back."""
    found: list[bytes] = []

    def encode() -> None:
        found[:] = [coder.encode(image, setting)]

    def run() -> Pass:
        return {"encode": timed(encode), "decode": timed(lambda: coder.decode(found[0]))}

    return run


def foreign_networks(
    coder: Any, images: Mapping[str, Pixels], setting: float | None, repeats: int
) -> tuple[Parts, float]:
    """Seconds by repeat of each network that `decode_parts` shows, all pictures together, and their kFLOPs/px."""
    if not callable(getattr(coder, "decode_parts", None)):
        return {}, 0.0
    passes, macs, pixels = [], 0, 0
    for image in images.values():
        networks = coder.decode_parts(coder.encode(image, setting))
        pixels += image.shape[0] * image.shape[1]
        macs += sum(cost.macs for cost in count_parts(networks, image.shape[0] * image.shape[1]))

        def run(networks: Mapping[str, Callable[[], object]] = networks) -> Pass:
            return {f"decode networks: {name}": timed(network) for name, network in networks.items()}

        run()  # warm up
        passes.append([run() for _ in range(repeats)])
    return add_up(passes), round(2e-3 * macs / pixels, 6)


def pictures(task: Task) -> tuple[Mapping[str, Pixels], str]:
    """The pictures of a task by name, and the name of the set. Errors as ImageFolder."""
    if task.data is not None:
        return ImageFolder(Path(task.data)), Path(task.data).resolve().name
    name = f"astronaut-{task.width}x{task.height}"
    return {name: mirrored(read_image(PHOTO), task.width, task.height)}, name


def mirrored(image: Pixels, width: int, height: int) -> Pixels:
    """As much of a picture as a size takes, or mirrored beyond its borders as often as that takes."""
    beyond = [(0, max(0, side - have)) for side, have in zip((height, width), image.shape, strict=False)]
    return np.ascontiguousarray(np.pad(image, (*beyond, (0, 0)), mode="symmetric")[:height, :width])


def pick_kernels(setting: Setting) -> str:
    """Let the core use the best kernels of this format and within these instructions. UsageError if there are none."""
    chosen = WITHIN.get(setting.isa, _native.kernels())
    if setting.dtype != "auto" and not setting.isa:
        fitting = [name for name in _native.all_kernels() if (name in BF16_KERNELS) == (setting.dtype == "bf16")]
        if not fitting:
            raise UsageError(f"--dtype {setting.dtype}: the core has no such kernels here; add --engine torch")
        chosen = fitting[-1]
    _native.use_kernels(chosen)
    return chosen


def load_codec(weights: Weights, device: torch.device, dtype: torch.dtype) -> Codec:
    """A codec in torch whose transforms run in `dtype`."""
    codec = Codec(weights, device, "torch")
    codec.torch.dtype = dtype
    for network in codec.model.inexact():
        network.to(dtype)
    return codec


def load_networks(config: ModelConfig, weights: Weights | None, device: torch.device, dtype: torch.dtype) -> ImageModel:
    """The float networks, entropy networks in float32, with random numbers where there are no weights."""
    torch.manual_seed(0)
    model = weights.build() if weights else ImageModel(config).eval().requires_grad_(False)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for network in model.inexact():
        network.to(dtype)
    return model


def file_pass(codec: Codec, quality: float | None, image: Pixels) -> Callable[[], Pass]:
    """A pass of whole files, from array to bytes and back."""
    coded = codec.encode(image, quality)
    analysed = codec.analyse(image)
    _, stream = unpack(coded.data)
    symbols, indexes = np.concatenate(coded.symbols), np.concatenate(coded.indexes)

    def decode_symbols() -> None:
        decoder = rans.Decoder(stream, codec.tables)
        for part in coded.indexes:
            decoder.decode(part)
        decoder.finish()

    def run() -> Pass:
        encoder = timed(lambda: rans.encode(symbols, indexes, codec.tables))
        decoder = timed(decode_symbols)
        return {
            "encode: analysis": timed(lambda: codec.analyse(image)),
            "encode: entropy networks": timed(lambda: codec.code(analysed, coded.quality)) - encoder,
            "encode: rANS": encoder,
            "decode: rANS": decoder,
            "decode: entropy networks": timed(lambda: codec.decode_latents(*unpack(coded.data))) - decoder,
            "decode: synthesis": timed(lambda: codec.synthesise(coded.y_hat, coded.quality, *image.shape[:2])),
        }

    return run


def network_pass(model: ImageModel, dtype: torch.dtype, image: Pixels) -> Callable[[], Pass]:
    """A pass of the networks alone: the picture through the analysis, zeros through what the decoder runs."""
    device = next(model.parameters()).device
    x = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float()
    x = pad_to_multiple(x, STRIDE).contiguous(memory_format=torch.channels_last)
    parts = model.decode_parts(*image.shape[:2])
    synthesis = parts.pop("synthesis")
    at = torch.full((1,), DEFAULT_QUALITY, device=device)

    def fast(call: Callable[[], object]) -> float:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return timed(call)

    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        y = pad_to_multiple(model.analysis(x) * model.gain(at), HYPER_STRIDE)

    def run() -> Pass:
        seconds = {"encode: analysis": fast(lambda: model.analysis(x))}
        with exact_arithmetic(device):  # as a codec runs them
            seconds["encode: hyper-analysis"] = timed(lambda: model.entropy.analyse(y, at))
            entropy = {f"decode: {name}": timed(part) for name, part in parts.items()}
        seconds["encode: entropy networks"] = sum(entropy.values())  # an encoder runs them too
        return seconds | entropy | {"decode: synthesis": fast(synthesis)}

    return run


def repeat(run: Callable[[], Pass], repeats: int) -> list[Pass]:
    """Passes after warm-up, each announced when it is done."""
    for _ in range(WARM_UP):
        if sum(run().values()) > SLOW_S:
            break
    passes = []
    for _ in range(repeats):
        passes.append(run())
        _say({})
    return passes


def cold_s(weights: Weights, images: Mapping[str, Pixels], model: str, setting: Setting) -> float:
    """Seconds from the start of `rdc decompress` to its end for the first picture, median of three after one."""
    image = next(iter(images.values()))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "photo.rdc").write_bytes(Codec(weights, torch.device("cpu")).compress(image))
        command = [sys.executable, "-P", "-m", "rdcodec", "decompress", "photo.rdc", "-o", "photo.png", "--force"]
        command += ["--device", setting.device, "--threads", str(setting.threads)]
        command += ["-m", str(Path(model).resolve())] if is_folder(model) else []
        start = partial(subprocess.run, command, cwd=folder, check=True, capture_output=True)
        return short(seconds_per_call(start, 3, 1))


class PeakMemory:
    """How far memory has grown since this was made: of the process, of torch on a GPU, or of the programs it runs."""

    def __init__(self, device: torch.device, children: bool = False) -> None:
        self.cuda, self.children = device.type == "cuda", children
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        self.before = 0.0 if children else self._peak()

    def mib(self) -> float | None:
        """MiB at the highest point; None where the system does not tell."""
        peak = self._peak()
        return None if peak is None or self.before is None else round((peak - self.before) / 2**20, 1)

    def _peak(self) -> float | None:
        if self.cuda:
            return float(torch.cuda.max_memory_allocated())
        windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
        if windows is not None:  # the only system of whose peak psutil tells
            return float(windows)
        import resource

        if self.children:  # of the largest program that has ended
            unit = 1 if sys.platform == "darwin" else 1024
            return float(unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
        except OSError:
            return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS: bytes
        # Linux would give getrusage the peak of the process that started this one.
        return next(1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


# What is made of it


def add_up(passes: Iterable[Sequence[Pass]]) -> dict[str, NDArray[np.float64]]:
    """Passes of each picture -> seconds of each part, all pictures together, by repeat."""
    sums: dict[str, NDArray[np.float64]] = {}
    for one in passes:
        for name in one[0]:
            seconds = np.array([seconds[name] for seconds in one])
            sums[name] = sums[name] + seconds if name in sums else seconds
    return sums


def totals(parts: Parts, coded: bool) -> dict[str, NDArray[np.float64]]:
    """Seconds of each direction, by repeat: of whole files where they were coded, and without entropy coding."""
    found = {}
    for way in ("encode", "decode"):
        own = [name for name in parts if name.startswith(f"{way}: ")]
        if coded:
            found[way] = sum_of(parts, own)
        found[f"{way} networks"] = sum_of(parts, [name for name in own if not name.endswith("rANS")])
    return found


def sum_of(parts: Parts, names: Iterable[str]) -> NDArray[np.float64]:
    """Seconds of some parts together, by repeat."""
    return np.stack([parts[name] for name in names]).sum(0)  # type: ignore[no-any-return]


def speeds(found: Parts, shapes: Sequence[tuple[int, ...]]) -> dict[str, float | int | None]:
    """Seconds per picture and megapixels per second of each total; None for one that was not measured."""
    mpx = sum(height * width for height, width in shapes) / 1e6
    values: dict[str, float | int | None] = {"pictures": len(shapes), "mpx": round(mpx, 6)}
    for name in ("encode", "decode", "encode networks", "decode networks"):
        seconds = summarise(found[name].tolist()).seconds if name in found else None
        key = name.replace(" ", "_")
        values[f"{key}_s"] = None if seconds is None else short(seconds / len(shapes))
        values[f"{key}_mpx_per_s"] = None if seconds is None else short(mpx / seconds)
    return values


def decoder_work(config: ModelConfig, shapes: Sequence[tuple[int, ...]], coded: bool) -> dict[str, float]:
    """GFLOP (2 x MAC) of each part of the decoder, all pictures together."""
    model = blueprint(config)
    work: Counter[str] = Counter()
    for (height, width), count in Counter(shapes).items():
        for cost in count_parts(model.decode_parts(height, width), height * width):
            name = "entropy networks" if coded and cost.name != "synthesis" else cost.name
            work[f"decode: {name}"] += count * 2e-9 * cost.macs  # type: ignore[assignment]
    return dict(work)


def achieved(work: Mapping[str, float], peak: Peak, seconds: NDArray[np.float64]) -> dict[str, float]:
    """Speed of this work, and the share of its time that it would take at the speed of a matrix product."""
    took = summarise(seconds.tolist()).seconds
    ideal = sum(
        gflop / peak.gflop_per_s[peak.dtype if name == "decode: synthesis" else "fp32"] for name, gflop in work.items()
    )
    return {"gflop_per_s": short(sum(work.values()) / took), "roofline_share": short(ideal / took)}


def rows(timed: Parts, work: Mapping[str, float], peak: Peak | None, count: int) -> list[dict[str, Any]]:
    """A row for each total and each part, seconds per picture."""
    made = []
    for name, seconds in timed.items():
        timing = {key: short(value / count) for key, value in summarise(seconds.tolist())._asdict().items()}
        extra = achieved({name: work[name]}, peak, seconds) if peak and name in work else {}
        made.append({"part": name, **timing, **extra})
    return made


def short(value: float) -> float:
    """Five digits are more than any of these figures can mean."""
    return float(f"{value:.5g}")


if __name__ == "__main__":
    main()

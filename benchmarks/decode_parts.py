"""Where a decoder's networks spend their time, and what other ways to run them would save.

    python benchmarks/decode_parts.py --model B --model G [--threads 2] [--repeats 5] [--json FILE]

Random weights, zeros for latents, a picture of 768x512: speed does not depend on them. Each component has its time,
GFLOP/s, and share of this machine's own matrix product (4096 cubed, same dtype and threads, same run). Other ways are
timed in turns with the usual one, after a check that both give the same numbers; medians, and ratios within this run.
In bfloat16 the slices are only timed: no file could be coded so.
"""

import argparse
import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from rdcodec.measure.bench import seconds_per_call
from rdcodec.measure.flops import count_parts
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.blocks import layers_of
from rdcodec.models.entropy.charm import CharmModel, SliceNetworks
from rdcodec.report.tables import markdown_table
from rdcodec.training.plan import find_config

HEIGHT, WIDTH = 512, 768
RESULT = Path(__file__).parents[1] / "docs" / "results" / "decode-parts.json"
SIDE = 4096  # of the matrix product
Call = Callable[[], Any]
Ways = dict[str, tuple[Call, Call]]  # the usual one and the other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="B unless given")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    record: dict[str, Any] = {"machine": machine(), "load_average": os.getloadavg()[0], "picture": [WIDTH, HEIGHT]}
    record["repeats"], record["models"] = arguments.repeats, {}
    for name in arguments.model or ["B"]:
        torch.manual_seed(0)
        model = ImageModel(find_config(name)).eval().to(memory_format=torch.channels_last)
        found = {dtype: measure(model, dtype, arguments.repeats) for dtype in ("float32", "bfloat16")}
        record["models"][name] = found
        for dtype, result in found.items():
            show(name, dtype, result)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    arguments.json.with_suffix(".md").write_text(page(record), encoding="utf-8")


def measure(model: ImageModel, dtype_name: str, repeats: int) -> dict[str, Any]:
    """Components, the sum of those before the synthesis, and the other ways to run them."""
    dtype = getattr(torch, dtype_name)
    model = in_dtype(model, dtype)
    gflop = {
        part.name: 1e-9 * part.flops
        for part in count_parts(blueprint(model.config).decode_parts(HEIGHT, WIDTH), HEIGHT * WIDTH)
    }
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        parts = model.decode_parts(HEIGHT, WIDTH)
        square = torch.rand(SIDE, SIDE).to(dtype)
        seconds = in_turns({**parts, "product": lambda: square @ square}, repeats)
        peak = 2e-9 * SIDE**3 / seconds.pop("product")
        ways = other_ways(model)
        if dtype == torch.float32:
            for name, (usual, other) in ways.items():
                check_equal(name, usual(), other())
        calls = {f"{name}|{side}": call for name, pair in ways.items() for side, call in zip("ab", pair, strict=True)}
        taken = in_turns(calls, repeats)
    entropy = sum(value for name, value in seconds.items() if name != "synthesis")
    return {
        "matmul_gflop_per_s": round(peak, 1),
        "components": {name: component(seconds[name], gflop[name], peak) for name in parts},
        "entropy_s": round(entropy, 5),
        "ways": {name: way(taken[f"{name}|a"], taken[f"{name}|b"], entropy) for name in ways},
    }


def in_dtype(model: ImageModel, dtype: torch.dtype) -> ImageModel:
    """A copy whose layers hold their weights in that dtype, but for those that always run in float32."""
    model = copy.deepcopy(model)
    entropy = model.entropy
    keep = {id(net.merge) for net in entropy.networks} if isinstance(entropy, CharmModel) else set()
    for network in (*model.synthesis.inexact(), *(layer for layer in layers_of(entropy) if id(layer) not in keep)):
        network.to(dtype)
    return model


def in_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, float]:
    """Median seconds of each call, all of them timed once in every round, so that a busy machine is so for all."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            taken = seconds_per_call(call, repeats=1, warm_up=0)
            if number:  # the first round warms up
                rounds[name].append(taken)
    return {name: median(values) for name, values in rounds.items()}


def component(seconds: float, gflop: float, peak: float) -> dict[str, float]:
    speed = gflop / seconds
    return {
        "ms": round(1e3 * seconds, 3),
        "gflop": round(gflop, 3),
        "gflop_per_s": round(speed, 1),
        "roofline_share": round(speed / peak, 3),
    }


def way(usual: float, other: float, entropy: float) -> dict[str, float]:
    return {
        "usual_ms": round(1e3 * usual, 3),
        "other_ms": round(1e3 * other, 3),
        "ratio": round(other / usual, 3),
        "saved_of_entropy": round((usual - other) / entropy, 4),
    }


def check_equal(name: str, usual: Any, other: Any) -> None:
    for a, b in zip(flat(usual), flat(other), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3), f"{name}: not the same numbers"


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in flat(part)]


def other_ways(model: ImageModel) -> Ways:
    """Pairs of calls that give the same."""
    y = torch.randn(1, *model.latent_shapes(HEIGHT, WIDTH)[0])
    synthesis = copy.deepcopy(model.synthesis).to(memory_format=torch.contiguous_format)
    quality = torch.full((1,), 50.0)
    last = last_in(y)
    ways: Ways = {
        "synthesis: channels last -> contiguous": (
            lambda: model.synthesis(last, quality),
            lambda: synthesis(y, quality),
        )
    }
    entropy = model.entropy
    return ways | charm_ways(entropy, y) if isinstance(entropy, CharmModel) else ways


def charm_ways(charm: CharmModel, y: Tensor) -> Ways:
    """Other ways to run the slices."""
    nets = charm.networks
    dtype = nets[0].mean[0].weight.dtype
    y = last_in(y.to(dtype))
    inputs = [last_in(torch.randn(1, net.seen, *y.shape[2:], dtype=dtype)) for net in nets]
    slices = charm.split(y)
    firsts = [(net.mean[0], net.scale[0]) for net in nets]
    ways: Ways = {}
    if charm.reduce is not None:
        features = last_in(torch.randn(1, charm.reduce.in_channels, *y.shape[2:], dtype=dtype))
        reduce, single = charm.reduce, unstack(charm.reduce, len(nets))
        ways["reduction: one call -> one per slice"] = (
            lambda: reduce(features),
            lambda: torch.cat([layer(features) for layer in single], 1),
        )
    both = [stack(pair) for pair in firsts]
    ways["first layers of mean and scale: two calls -> one"] = (
        lambda: [torch.cat([a(x), b(x)], 1) for (a, b), x in zip(firsts, inputs, strict=True)],
        lambda: [layer(x) for layer, x in zip(both, inputs, strict=True)],
    )
    chains = [in_groups(net) for net in nets]
    ways["mean and scale: two chains -> one of two groups"] = (
        lambda: [torch.cat([net.mean(x), net.scale(x)], 1) for net, x in zip(nets, inputs, strict=True)],
        lambda: [chain(x) for chain, x in zip(chains, inputs, strict=True)],
    )
    threes = [split_first(net) for net in nets]
    ways["first layers with LRP's: three calls -> one for what all see, one for the slice"] = (
        lambda: [three_calls(net, x, part) for net, x, part in zip(nets, inputs, slices, strict=True)],
        lambda: [two_calls(*pair, x, part) for pair, x, part in zip(threes, inputs, slices, strict=True)],
    )
    if charm.config.max_support is None:
        pull, push = pull_and_push(charm, inputs[0].shape[1], y)
        ways["first layers: each slice reads all earlier ones -> each slice adds to all later ones"] = pull, push
    alone = copy.deepcopy(charm).to(memory_format=torch.contiguous_format).networks
    plain = [x.contiguous() for x in inputs]
    ways["mean and scale: channels last -> contiguous"] = (
        lambda: [(net.mean(x), net.scale(x)) for net, x in zip(nets, inputs, strict=True)],
        lambda: [(net.mean(x), net.scale(x)) for net, x in zip(alone, plain, strict=True)],
    )
    return ways


def last_in(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def convolution(weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    layer = nn.Conv2d(inputs * groups, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias is not None)
    layer.weight.data = last_in(weight.detach().clone())
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def stack(layers: Any, groups: int = 1) -> nn.Conv2d:
    """Layers of one input as one layer; of an input each, in groups."""
    weights, biases = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
    return convolution(torch.cat(weights), torch.cat(biases), groups)


def unstack(layer: nn.Conv2d, count: int) -> list[nn.Conv2d]:
    pairs = zip(layer.weight.chunk(count), layer.bias.chunk(count), strict=True)
    return [convolution(weight, bias) for weight, bias in pairs]


def in_groups(net: SliceNetworks) -> nn.Sequential:
    """Mean and scale of a slice as one chain: the first layers stacked, the others in two groups."""
    pairs = list(zip(net.mean, net.scale, strict=True))
    layers = [
        a if isinstance(a, nn.ReLU) else stack((a, b), 1 if index == 0 else 2) for index, (a, b) in enumerate(pairs)
    ]
    return nn.Sequential(*layers)


def split_first(net: SliceNetworks) -> tuple[nn.Conv2d, nn.Conv2d]:
    """First layers of mean, scale and LRP over what all of them see, and LRP's over the slice."""
    lrp = net.lrp[0]
    shared = convolution(lrp.weight[:, : net.seen], lrp.bias)
    return stack((net.mean[0], net.scale[0], shared)), convolution(lrp.weight[:, net.seen :], None)


def three_calls(net: SliceNetworks, x: Tensor, part: Tensor) -> Tensor:
    return torch.cat([net.mean[0](x), net.scale[0](x), net.lrp[0](torch.cat([x, part], 1))], 1)


def two_calls(shared: nn.Conv2d, own: nn.Conv2d, x: Tensor, part: Tensor) -> Tensor:
    mean, scale, lrp = shared(x).chunk(3, 1)
    return torch.cat([mean, scale, lrp + own(part)], 1)


def pull_and_push(charm: CharmModel, own: int, y: Tensor) -> tuple[Call, Call]:
    """First layers of all slices, over what they see: by reading it all, or adding up what each slice gives."""
    shared = [split_first(net)[0] for net in charm.networks]
    count, wide = len(shared), shared[0].out_channels
    slices = charm.split(y)
    features = last_in(torch.randn(1, count * own, *y.shape[2:], dtype=y.dtype))
    starts = convolution(
        torch.cat([layer.weight[:, :own] for layer in shared]), torch.cat([layer.bias for layer in shared]), count
    )
    pushes, begin = [], own
    for index, part in enumerate(slices[:-1]):
        end = begin + part.shape[1]
        pushes.append(convolution(torch.cat([layer.weight[:, begin:end] for layer in shared[index + 1 :]]), None))
        begin = end

    def pull() -> list[Tensor]:
        parts = features.chunk(count, 1)
        return [layer(torch.cat([parts[i], *slices[:i]], 1)) for i, layer in enumerate(shared)]

    def push() -> list[Tensor]:
        sums = starts(features)
        for index, layer in enumerate(pushes):
            sums[:, (index + 1) * wide :] += layer(slices[index])
        return list(sums.chunk(count, 1))

    return pull, push


def show(name: str, dtype: str, result: dict[str, Any]) -> None:
    print(f"\n{name}, {dtype}; matrix product {result['matmul_gflop_per_s']:.0f} GFLOP/s")
    whole = sum(part["ms"] for part in result["components"].values())
    for part, found in result["components"].items():
        speed = f"{found['gflop_per_s']:7.1f} GFLOP/s {found['roofline_share']:6.0%}"
        print(f"  {part:22s}{found['ms']:9.2f} ms {found['ms'] / whole:5.0%} {speed}")
    print(f"  {'all':22s}{whole:9.2f} ms")
    for way_name, found in result["ways"].items():
        saved = f"{found['saved_of_entropy']:+.1%} of the entropy part" if "synthesis" not in way_name else ""
        print(f"  {way_name}: {found['usual_ms']:.1f} -> {found['other_ms']:.1f} ms, x {found['ratio']:.2f} {saved}")


def page(record: Mapping[str, Any]) -> str:
    """What `show` prints, as Markdown."""
    here = record["machine"]
    parts = [
        "# Where decoding takes its time\n\n"
        "Written by `benchmarks/decode_parts.py`: the decoder's networks with random weights on a picture of "
        f"{WIDTH}x{HEIGHT}, {here['cpu']},\n{here['threads']} threads, torch {here['torch']}; medians of "
        f"{record['repeats']}. The roofline is torch's own product of two {SIDE}x{SIDE} matrices in the same\nformat. "
        "Where its float32 product does not use all of a processor that its convolutions do use, shares pass 100 %.\n"
    ]
    for name, formats in record["models"].items():
        for dtype, result in formats.items():
            parts += [f"\n## {name}, {dtype}: matrix product {result['matmul_gflop_per_s']:.0f} GFLOP/s\n\n"]
            parts += [components_table(result), "\n", ways_table(result)]
    return "".join(parts)


def components_table(result: Mapping[str, Any]) -> str:
    whole = sum(part["ms"] for part in result["components"].values())
    rows = [
        [
            *(part, f"{found['ms']:.1f}", f"{found['ms'] / whole:.0%}"),
            *(f"{found['gflop_per_s']:.0f}", f"{found['roofline_share']:.0%}"),
        ]
        for part, found in result["components"].items()
    ]
    return markdown_table(["component", ">ms", ">of all", ">GFLOP/s", ">of the roofline"], rows)


def ways_table(result: Mapping[str, Any]) -> str:
    rows = [
        [name.split(": ")[0], *name.split(": ")[1].split(" -> "), f"x {found['ratio']:.2f}"]
        for name, found in result["ways"].items()
    ]
    return markdown_table(["what", "as it is", "other way", ">time of the other way"], rows)


if __name__ == "__main__":
    main()

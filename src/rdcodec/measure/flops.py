"""FLOPs of a network as it runs: every tensor operation is counted or refused, none is a silent zero.

One multiply-accumulate is 2 FLOPs. The headline (`PartCost.flops`) is 2 per multiply-accumulate, plus 1
per bias added by a convolution or linear layer, plus 1 per element where two activations of one shape are
multiplied or divided: the product in GDN and in an attention gate. Published counts of learned codecs made
with TensorFlow's profiler follow this rule. Everything else that computes on elements (activations,
normalisation, residual sums, scaling, rounding) is counted apart, one per element and operation, whatever
the function costs; operations that only move or reshape data are free.

Counted is what really runs in torch, padding included; work done in NumPy is not seen. Tensors may be on the
"meta" device, where nothing is computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from rdcodec.errors import RdcError, UsageError
from rdcodec.measure.cost import ModelCount, PartCost

if TYPE_CHECKING:
    from rdcodec.models.base import ImageModel
    from rdcodec.models.config import ModelConfig

PROBE_SIDE = 4096  # pixels: a multiple of all that a window of up to 64 hyper-latents pads to
ELEMENTWISE_KIND = "elementwise"
Shape = tuple[int, ...]
Owner = Callable[[Mapping[str, Any]], str]


class UncountedOpError(RdcError):
    """An operation that the counter has no rule for."""


@dataclass(frozen=True)
class LayerCost:
    """What one layer of a component computes; `cost.name` is the layer's path in the model.

    kind: as "conv 5x5 s2", or the module's class; shape: of the output. What a component computes on elements alone
    is one row of kind "elementwise" with the component's name, no shape, and the parameters of its normalisations
    and scalings.
    """

    component: str
    kind: str
    shape: Shape
    parameters: int
    cost: PartCost


@dataclass(frozen=True)
class Term:
    """A component's headline FLOPs per pixel of the picture padded to a multiple of `multiple` in both sides."""

    component: str
    multiple: int
    flops_per_padded_px: Fraction

    def flops(self, width: int, height: int) -> Fraction:
        """FLOPs on a picture of that size."""
        padded = prod(-(-side // self.multiple) * self.multiple for side in (width, height))
        return self.flops_per_padded_px * padded


def count_config(config: ModelConfig) -> ModelCount:
    """Counted without numbers, in seconds; `cost.count_model` knows the packaged ones. Raises UncountedOpError."""
    from rdcodec.models.base import blueprint

    model = blueprint(config)
    whole, analysis = (sum(p.numel() for p in network.parameters()) for network in (model, model.analysis))
    return ModelCount(whole, analysis, tuple(count_parts(model.decode_parts(512, 768), 768 * 512)))


def count_parts(parts: Mapping[str, Callable[[], Any]], pixels: int) -> list[PartCost]:
    """Cost of each part, run once under the counter. Raises UncountedOpError naming what has no rule."""
    return [_count_part(name, run, pixels) for name, run in parts.items()]


def count_layers(model: ImageModel, width: int, height: int) -> list[LayerCost]:
    """Cost of every layer of a decoder, by component in the order of running. Raises UncountedOpError."""
    rows: list[LayerCost] = []
    for component, run in model.decode_parts(height, width).items():
        rows += _layers_of_part(model, component, run, width * height)
    return rows


def cost_formula(model: ImageModel) -> list[Term]:
    """The headline at every size of more than one latent: sum of the terms, by component. Raises UncountedOpError.

    UsageError where no such formula holds: windows that are no power of two are padded in two steps.
    """
    whole, thin = (_flops_by_layer(model, *size) for size in ((PROBE_SIDE, PROBE_SIDE), (PROBE_SIDE, 1)))
    rates: dict[tuple[str, int], Fraction] = defaultdict(Fraction)
    for (component, layer), flops in whole.items():
        # The one row of pixels costs as much as all rows that it is padded to.
        multiple = Fraction(PROBE_SIDE * thin[component, layer], flops)
        rates[component, round(multiple)] += Fraction(flops, PROBE_SIDE**2)
    components = [component for component, _ in whole]
    terms = [Term(component, multiple, rate) for (component, multiple), rate in rates.items()]
    check = 1301, 333
    if sum(term.flops(*check) for term in terms) != sum(_flops_by_layer(model, *check).values()):
        raise UsageError(f"{model.config.name}: its windows are no powers of two, so that no formula holds; use --size")
    return sorted(terms, key=lambda term: (components.index(term.component), term.multiple))


def _flops_by_layer(model: ImageModel, width: int, height: int) -> dict[tuple[str, str], int]:
    rows = count_layers(model, width, height)
    return {(row.component, row.cost.name): row.cost.flops for row in rows if row.cost.flops}


def _layers_of_part(model: nn.Module, component: str, run: Callable[[], Any], pixels: int) -> list[LayerCost]:
    modules = dict(model.named_modules())
    with torch.inference_mode(), _owners(model) as owner, FlopCounter(owner) as counter:
        run()
    layers: dict[str, list[Operation]] = defaultdict(list)
    for operation in counter.operations:
        layers[operation.layer].append(operation)

    def row(name: str, kind: str, shape: Shape, found: Iterable[str]) -> LayerCost:
        counts = [operation.counts for layer in found for operation in layers[layer]]
        parameters = sum(p.numel() for layer in found for p in modules[layer].parameters(recurse=False))
        cost = PartCost(name, pixels, *map(sum, zip(*counts, strict=True)))
        return LayerCost(component, kind, shape, parameters, cost)

    rows, rest = [], []
    for name, operations in layers.items():
        heavy = next((operation for operation in operations if any(operation.counts[:3])), None)
        if heavy is None:
            rest.append(name)
            continue
        leaf = isinstance(modules[name], nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        kind = heavy.kind if leaf else type(modules[name]).__name__
        rows.append(row(name, kind, heavy.shape, [name]))
    return [*rows, row(component, ELEMENTWISE_KIND, (), rest)] if rest else rows


def _count_part(name: str, run: Callable[[], Any], pixels: int) -> PartCost:
    # In inference mode a composite operation (linear, matmul, attention) arrives whole, not as pieces
    # among which its bias could no longer be told from any other sum.
    with torch.inference_mode(), FlopCounter() as counter:
        run()
    return PartCost(name, pixels, counter.macs, counter.biases, counter.products, counter.elementwise)


@dataclass(frozen=True)
class Operation:
    """One counted operation; counts: multiply-accumulates, biases, products, elementwise."""

    layer: str
    kind: str
    shape: Shape
    counts: tuple[int, int, int, int]


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that adds up the cost of every operation run inside; enter `torch.inference_mode` first.

    Given an `owner` of the arguments of an operation, it lists them in `operations`.
    """

    def __init__(self, owner: Owner | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.biases = self.products = self.elementwise = 0
        self.owner = owner
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, op: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = _base_name(op)
        if name not in MACS and name not in ELEMENTWISE and name not in FREE:
            with self:  # a composite of other operations counts as these
                out = op.decompose(*args, **kwargs)
            if out is NotImplemented:
                raise UncountedOpError(f"{op}: the FLOP counter has no rule for it; add one in measure/flops.py")
            return out
        out = op(*args, **kwargs)
        self._count(name, _bind(op, args, kwargs), out)
        return out

    def _count(self, name: str, a: Mapping[str, Any], out: Any) -> None:
        macs = biases = products = elementwise = 0
        if name in MACS:
            macs = MACS[name](a, out)
            if name in HAVE_BIAS and a[HAVE_BIAS[name]] is not None:
                biases = out.numel()
        elif name in PRODUCTS and _is_product(a):
            products = out.numel()
        elif name in ELEMENTWISE:
            elementwise = max(t.numel() for t in _tensors((*a.values(), out)))
        self.macs += macs
        self.biases += biases
        self.products += products
        self.elementwise += elementwise
        counts = macs, biases, products, elementwise
        if self.owner and any(counts):
            shape = tuple(_tensors((out,))[0].shape)
            self.operations.append(Operation(self.owner(a), _kind(name, a), shape, counts))


@contextmanager
def _owners(model: nn.Module) -> Iterator[Owner]:
    """Yields what names the module that an operation belongs to: that of the weights, or the innermost that runs."""
    running = [""]
    hooks: list[Any] = []
    weights: dict[int, str] = {}
    for name, module in model.named_modules():

        def enter(_module: nn.Module, _inputs: Any, name: str = name) -> None:
            running.append(name)

        def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            running.pop()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        weights.update((_storage(parameter), name) for parameter in module.parameters(recurse=False))
    try:
        yield lambda a: weights.get(_storage(a["weight"]), running[-1]) if a.get("weight") is not None else running[-1]
    finally:
        for hook in hooks:
            hook.remove()


def _storage(tensor: Tensor) -> int:
    """What a tensor has in common with its views."""
    return int(tensor.untyped_storage()._cdata)


def _kind(name: str, a: Mapping[str, Any]) -> str:
    """The operation in the words of a layer list."""
    if name == "convolution":
        depthwise = a["groups"] > 1 and a["groups"] == a["input"].shape[1]
        word = "deconv" if a["transposed"] else "depthwise" if depthwise else "conv"
        kernel = "x".join(map(str, a["weight"].shape[2:]))
        strides = f" s{a['stride'][0]}" if max(a["stride"]) > 1 else ""
        return f"{word} {kernel}{strides}"
    return name


def _base_name(op: OpOverload) -> str:
    """ "aten::add_.Tensor" to "add"; other namespaces keep theirs."""
    name = str(op._schema.name).removeprefix("aten::")
    return name if name.endswith("__") else name.removesuffix("_")


def _bind(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the schema, defaults filled in."""
    bound = {p.name: p.default_value for p in op._schema.arguments}
    bound.update((p.name, value) for p, value in zip(op._schema.arguments, args, strict=False))
    return bound | dict(kwargs)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found


def _is_product(a: Mapping[str, Any]) -> bool:
    """Two different activations of one shape; a square, a gain or a scalar factor is none."""
    x, y = (a["self"], a["other"]) if "other" in a else (a["tensor1"], a["tensor2"])
    return isinstance(x, Tensor) and isinstance(y, Tensor) and x is not y and x.shape == y.shape and x.dim() > 1


def _convolution(a: Mapping[str, Any], out: Tensor) -> int:
    # Every weight meets every position once: positions of the output, or of the input if transposed.
    # The weight holds (out, in / groups, ...), transposed (in, out / groups, ...), so groups are in it.
    positions = a["input"] if a["transposed"] else out
    return int(a["weight"].numel()) * int(positions.shape[0]) * prod(positions.shape[2:])


def _linear(a: Mapping[str, Any], out: Tensor) -> int:
    return int(a["input"].numel()) * int(a["weight"].shape[0])


def _product(left: str) -> Callable[[Mapping[str, Any], Tensor], int]:
    """Matrix product: each output element sums over the last axis of the left operand."""
    return lambda a, out: out.numel() * int(a[left].shape[-1])


def _attention(a: Mapping[str, Any], out: Any) -> int:
    query, key, value = a["query"], a["key"], a["value"]
    per_query = key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return int(prod(query.shape[:-1]) * per_query)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MACS: dict[str, Callable[[Mapping[str, Any], Any], int]] = {
    "convolution": _convolution,
    "linear": _linear,
    "mm": _product("self"),
    "bmm": _product("self"),
    "mv": _product("self"),
    "dot": lambda a, out: int(a["self"].numel()),
    "_int_mm": _product("self"),
    "addmm": _product("mat1"),
    "addmv": _product("mat"),
    "baddbmm": _product("batch1"),
    "scaled_dot_product_attention": _attention,
}
"""Multiply-accumulates by name of the operation, in-place forms included."""

HAVE_BIAS = {"convolution": "bias", "linear": "bias", "addmm": "self", "addmv": "self", "baddbmm": "self"}
"""Operations that add a bias to every output, and the argument that holds it."""

PRODUCTS = _names("mul div addcmul addcdiv")
"""Counted in the headline where both factors are activations of one shape, else elementwise."""

ELEMENTWISE = PRODUCTS | _names(
    """
    abs add asinh ceil clamp clamp_max clamp_min cos cumsum elu erf erfc exp exp2 expm1 floor floor_divide
    fmod frac gelu hardsigmoid hardswish hardtanh leaky_relu lerp log log10 log1p log2 log_sigmoid logit
    maximum minimum neg pow _prelu_kernel reciprocal relu remainder round rsqrt rsub sigmoid sign silu sin
    softplus special_erf sqrt square sub tan tanh threshold trunc xlogy
    masked_fill all amax amin any argmax argmin max mean min norm linalg_vector_norm prod std sum var var_mean
    avg_pool2d _adaptive_avg_pool2d max_pool2d_with_indices
    _softmax _log_softmax native_layer_norm native_group_norm native_batch_norm
    _native_batch_norm_legit_no_training
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bucketize eq ge gt
    isfinite isinf isnan le logical_and logical_not logical_or logical_xor lt ne searchsorted where
    __and__ __lshift__ __or__ __rshift__ __xor__
    bernoulli normal rand rand_like randint randint_like randn randn_like uniform
    """
)
"""One per element of the largest tensor involved, reductions and normalisations included."""

FREE = _names(
    """
    alias as_strided detach diagonal expand lift_fresh movedim narrow permute select slice split
    split_with_sizes squeeze t transpose unbind unfold unsqueeze view view_as_real _reshape_alias
    _unsafe_view
    _to_copy cat clone constant_pad_nd contiguous copy _local_scalar_dense embedding flip gather im2col
    index index_copy index_put index_select pixel_shuffle pixel_unshuffle reflection_pad2d
    repeat replication_pad2d roll scatter stack tril triu upsample_nearest2d
    arange empty empty_like empty_strided eye fill full full_like linspace new_empty new_empty_strided
    new_full new_ones new_zeros ones ones_like scalar_tensor zero zeros zeros_like
    """
)
"""Reshaping, copying, gathering, conversion of type, constants: nothing is computed."""

"""Swin blocks: windows against attention written out, borders, what is moved where."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdcodec.models import swin
from rdcodec.models.swin import PatchMerge, PatchSplit, SwinBlock, WindowAttention, join_windows, split_windows

WIDTH, WINDOW, HEAD = 12, 4, 4
SIZES = [(8, 12), (4, 4), (7, 9), (3, 5), (1, 2), (1, 1), (6, 4)]


def attention(shift: int) -> WindowAttention:
    torch.manual_seed(0)
    layer = WindowAttention(WIDTH, WINDOW, HEAD, shift)
    with torch.no_grad():
        layer.qkv.weight.mul_(2)
        layer.bias.normal_()
    return layer


def feature_map(height: int, width: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, height, width, WIDTH)


def written_out(layer: WindowAttention, x: Tensor) -> Tensor:
    """Each position sees those of its own window, on a grid that starts at the shift; a picture and head at a time."""
    height, width = x.shape[1:3]
    places = [(row, column) for row in range(height) for column in range(width)]
    window_of = [((r - layer.shift) // WINDOW, (c - layer.shift) // WINDOW) for r, c in places]
    out = torch.empty_like(x)
    for picture, values in enumerate(x):
        query, key, value = layer.qkv(values.reshape(-1, WIDTH)).chunk(3, 1)
        mixed = torch.empty(len(places), WIDTH)
        for head in range(WIDTH // HEAD):
            own = slice(head * HEAD, (head + 1) * HEAD)
            scores = query[:, own] @ key[:, own].T / HEAD**0.5
            for q, (row, column) in enumerate(places):
                for k, (other_row, other_column) in enumerate(places):
                    if window_of[q] != window_of[k]:
                        scores[q, k] = -torch.inf
                        continue
                    offset = (row - other_row + WINDOW - 1) * (2 * WINDOW - 1) + column - other_column + WINDOW - 1
                    scores[q, k] += layer.bias[head, offset]
            mixed[:, own] = scores.softmax(1) @ value[:, own]
        out[picture] = layer.project(mixed).reshape(height, width, WIDTH)
    return out


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_attention_within_windows(height: int, width: int, shift: int) -> None:
    layer, x = attention(shift), feature_map(height, width)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), written_out(layer, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_what_lies_beyond_the_border_does_not_matter(
    height: int, width: int, shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = attention(shift), feature_map(height, width)

    def filled(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
        inside = F.pad(torch.ones_like(x), amounts).bool()
        return torch.where(inside, F.pad(x, amounts), 1000 * torch.randn(inside.shape))

    with torch.no_grad():
        wanted = layer(x)
        attend = F.scaled_dot_product_attention
        monkeypatch.setattr(swin, "F", SimpleNamespace(pad=filled, scaled_dot_product_attention=attend))
        torch.testing.assert_close(layer(x), wanted, atol=1e-6, rtol=1e-6)


def test_a_window_sees_itself_alone_and_the_shift_joins_neighbours() -> None:
    x = feature_map(8, 8)
    moved = x.clone()
    moved[:, 3, 3] += 1
    with torch.no_grad():
        for shift, rows in ((0, slice(0, 4)), (2, slice(2, 6))):
            layer = attention(shift)
            changed = (layer(x) != layer(moved)).any(-1)[0]
            expected = torch.zeros(8, 8, dtype=torch.bool)
            expected[rows, rows] = True
            assert torch.equal(changed, expected)


def test_windows_come_back() -> None:
    x = feature_map(8, 12)
    windows = split_windows(x, 4)
    assert windows.shape == (2 * 6, 16, WIDTH)
    assert torch.equal(windows[1], x[0, :4, 4:8].reshape(16, WIDTH))
    assert torch.equal(join_windows(windows, 4, 8, 12), x)


def test_merging_and_splitting_keep_patches_together() -> None:
    torch.manual_seed(0)
    merge, split, x = PatchMerge(WIDTH, 8), PatchSplit(WIDTH, 8), feature_map(4, 6)
    moved = x.clone()
    moved[:, 1, 2] += torch.randn(WIDTH)
    with torch.no_grad():
        merged = (merge(x) != merge(moved)).any(-1)[0]
        parted = (split(x) != split(moved)).any(-1)[0]
    assert merge(x).shape == (2, 2, 3, 8) and split(x).shape == (2, 8, 12, 8)
    assert merged.nonzero().tolist() == [[0, 1]]
    assert parted.nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_a_block_starts_near_the_identity_and_sums_in_float32() -> None:
    torch.manual_seed(0)
    block, x = SwinBlock(WIDTH, WINDOW, HEAD, 2), feature_map(8, 8)
    with torch.no_grad():
        assert (block(x) - x).std() < 0.3
        with torch.autocast("cpu", torch.bfloat16):
            assert block(x.bfloat16()).dtype == torch.float32

"""Intervals and ranks against simulations whose differences are known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from rdcodec.measure.bdrate import Curve, bd_rate
from rdcodec.measure.reading import load_curve
from rdcodec.measure.uncertainty import (
    FEWEST_PICTURES,
    bd_interval,
    bd_rates,
    bootstrap_mean,
    picture_curves,
    rank_text,
    ranks,
)

QUALITIES = (27.0, 29.0, 31.0, 33.0, 35.0, 37.0)


def simulated(name: str, log_rates: Sequence[float]) -> Curve:
    """A codec whose curve of picture i is a line of log-rate over PSNR, shifted by log_rates[i]."""
    points = [
        (f"{i:03}.png", math.exp(shift + 0.15 * (db - 32)), db) for i, shift in enumerate(log_rates) for db in QUALITIES
    ]
    rates = np.mean([[bpp for picture, bpp, db in points if db == quality] for quality in QUALITIES], axis=1)
    return Curve(name, tuple(rates.tolist()), QUALITIES, by_picture=picture_curves(name, points))


def test_a_factor_that_all_pictures_share_is_certain() -> None:
    hard = np.random.default_rng(0).normal(0, 0.7, 24)
    found = bd_interval(simulated("test", hard + math.log(0.9)), simulated("anchor", hard))
    assert found is not None and found.pictures == 24
    assert (found.value, found.low, found.high) == pytest.approx((-10, -10, -10), abs=1e-6)


@pytest.mark.parametrize(("pictures", "least"), [(5, 0.90), (6, 0.91), (24, 0.93), (100, 0.93)])
def test_intervals_hold_the_true_difference_as_often_as_they_say(pictures: int, least: float) -> None:
    """Skewed differences too: some pictures gain much more than others."""
    rng = np.random.default_rng(pictures)
    for draw, true in (
        (lambda: rng.normal(-0.05, 0.08, pictures), -0.05),
        (lambda: rng.uniform(-0.2, 0.1, pictures), -0.05),
    ):
        hits = sum(low <= true <= high for low, high in (bootstrap_mean(draw()) for _ in range(1000)))
        assert least <= hits / 1000 <= 0.98


def test_the_spread_of_pictures_widens_the_interval_and_their_difficulty_does_not() -> None:
    rng = np.random.default_rng(1)
    gain = rng.normal(-0.05, 0.02, 24)
    widths = []
    for difficulty, spread in ((0.1, 1), (1.5, 1), (0.1, 4)):
        hard = rng.normal(0, difficulty, 24)
        gains = -0.05 + spread * (gain + 0.05)
        found = bd_interval(simulated("test", hard + gains), simulated("anchor", hard))
        assert found is not None
        assert found.value == pytest.approx(100 * math.expm1(gains.mean()), abs=1e-6)
        assert found.low < found.value < found.high
        widths.append(math.log1p(found.high / 100) - math.log1p(found.low / 100))
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)
    assert widths[2] == pytest.approx(4 * widths[0], rel=1e-6)


def test_ranks_of_known_differences() -> None:
    """The best two cannot be told apart, the third is 5 % worse for certain, the last 20 %."""
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 0.7, 24)

    def codec(name: str, percent: float) -> Curve:
        wobble = rng.normal(0, 0.03, 24)
        return simulated(name, hard + math.log1p(percent / 100) + wobble - wobble.mean())

    order = ranks([codec("fourth", 20), codec("one", 0), codec("third", 5), codec("other", 0.3)])
    assert order == [4, 1, 3, 1]
    assert [rank_text(rank, order) for rank in order] == ["4", "1=", "3", "1="]


def test_the_same_curves_give_the_same_interval_whichever_is_named_first() -> None:
    rng = np.random.default_rng(3)
    a, b = (simulated(name, rng.normal(0, 0.1, 12)) for name in "ab")
    there, back = bd_interval(a, b), bd_interval(b, a)
    assert there == bd_interval(a, b) and there is not None and back is not None
    assert math.log1p(there.value / 100) == pytest.approx(-math.log1p(back.value / 100))
    assert math.log1p(there.low / 100) == pytest.approx(-math.log1p(back.high / 100), abs=2e-3)


def test_only_pictures_of_both_count_and_few_give_no_interval() -> None:
    shifts = [0.1 * i for i in range(8)]
    test, anchor = simulated("test", shifts), simulated("anchor", shifts)
    some = Curve("some", test.bpp, test.psnr_db, by_picture=dict(list(test.by_picture.items())[:FEWEST_PICTURES]))
    few = Curve("few", test.bpp, test.psnr_db, by_picture=dict(list(test.by_picture.items())[: FEWEST_PICTURES - 1]))
    means = Curve("means", test.bpp, test.psnr_db)
    assert len(bd_rates(some, anchor)) == FEWEST_PICTURES
    assert bd_interval(some, anchor) is not None
    assert bd_interval(few, anchor) is None and bd_interval(means, anchor) is None
    assert bd_rates(means, anchor) == {}
    dearer = Curve("dearer", tuple(1.1 * rate for rate in test.bpp), test.psnr_db)
    assert ranks([dearer, means]) == [2, 1]  # by the mean curves, where there is nothing else
    short = Curve("short", test.bpp[:2], test.psnr_db[:2])
    assert ranks([short, means]) == [1, 1]


def test_pictures_of_a_builtin_curve_are_those_of_its_file() -> None:
    jpeg, webp, published = (load_curve(name) for name in ("kodak_jpeg_pillow", "kodak_webp_pillow", "bpg_444"))
    assert len(jpeg.by_picture) == 24 and not published.by_picture
    found = bd_interval(webp, jpeg)
    assert found is not None and found.high < 0 and found.pictures == 24
    own = [bd_rate(webp.by_picture[name], jpeg.by_picture[name]).value for name in jpeg.by_picture]
    assert min(own) < found.low < found.value < found.high < max(own)
    assert load_curve("kodak_jpeg_pillow", "ms_ssim").by_picture["kodim01.png"].metric == "ms_ssim"

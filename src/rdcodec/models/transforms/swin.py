"""SwinT transforms: Swin blocks at 1/2 to 1/16 of the picture (Zhu, Yang and Cohen 2022, ICLR, section 3.1)."""

from torch import nn

from rdcodec.models.swin import channels_first, down_stages, up_stages
from rdcodec.models.transforms.kinds import SwinTransform
from rdcodec.models.transforms.staged import StagedAnalysis, StagedSynthesis


class SwinAnalysis(StagedAnalysis):
    """Analysis transform g_a of Swin blocks and patch merging."""

    def __init__(self, config: SwinTransform, latent_channels: int) -> None:
        *stages, last = down_stages(3, config)
        assert config.widths[-1] == latent_channels
        super().__init__(nn.Sequential(*stages), nn.Sequential(last, channels_first()))


class SwinSynthesis(StagedSynthesis):
    """Synthesis transform g_s of Swin blocks and patch splitting."""

    def __init__(self, config: SwinTransform, latent_channels: int) -> None:
        assert config.widths[0] == latent_channels
        super().__init__(up_stages(config, 3))

"""Hyper-latents and their networks, shared by the entropy models that the paper compares."""

from torch import Tensor, nn

from rdcodec.models.blocks import ACTIVATIONS, down, network, pad_to_multiple, scaled
from rdcodec.models.entropy.checkerboard import Noise, Search
from rdcodec.models.entropy.factorized import DeepFactorizedPrior
from rdcodec.models.entropy.gaussian import straight_round
from rdcodec.models.entropy.kinds import HyperEntropy, LayerChain
from rdcodec.models.entropy.model import EntropyModel
from rdcodec.models.entropy.structure import synthesis_chain
from rdcodec.models.sizes import HYPER_STRIDE
from rdcodec.models.stages import SwinStages
from rdcodec.models.swin import channels_first, down_stages

# A scale that starts far below that of the latents leaves them beyond the reach of its gradient.
SCALE_START = 4.0


class HyperModel(EntropyModel):
    """Hyper-analysis h_a, hyper-synthesis h_s and the density of z (B, N, h/4, w/4). Nothing depends on quality."""

    def __init__(self, config: HyperEntropy, latent_channels: int) -> None:
        super().__init__()
        self.hyper_channels = config.hyper_channels
        self.factorized_prior = DeepFactorizedPrior(config.hyper_channels, config.filters)
        self.hyper_analysis = config.hyper_analysis.build_analysis(latent_channels)
        self.hyper_synthesis = config.hyper_synthesis.build_synthesis(config.hyper_channels)

    def analyse(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, M, h, w), h and w multiples of 4 -> z (B, N, h/4, w/4), not yet rounded."""
        z: Tensor = self.hyper_analysis(y)
        return z.float()

    def side_information(
        self, y: Tensor, quality: Tensor, noise: Noise | None, search: Search | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, M, h, w), any h and w -> output of h_s on the rounded z, (B, channels, h, w); bits of z."""
        height, width = y.shape[2:]
        z = self.analyse(pad_to_multiple(y, HYPER_STRIDE), quality) if search is None else search.z
        z_hat = (straight_round if search is None else search.quantise)(z, None)
        bits_z = self.factorized_prior(z_hat if noise is None else z + noise.z)
        return self.synthesise(z_hat)[:, :, :height, :width], bits_z

    def synthesise(self, z_hat: Tensor) -> Tensor:
        """Rounded z (B, N, h, w) -> what the networks of y see of it, (B, channels, 4h, 4w)."""
        features: Tensor = self.hyper_synthesis(z_hat)
        return features


def chain_down(inputs: int, config: LayerChain) -> nn.Sequential:
    """Hyper-analysis of convolutions, (B, inputs, 4h, 4w) -> (B, N, h, w)."""
    activation = ACTIVATIONS[config.activation]
    layers: list[nn.Module] = []
    for outputs, kernel, stride in zip(config.channels, config.kernels, config.strides, strict=True):
        layers += [down(inputs, outputs, kernel, stride), activation()]
        inputs = outputs
    return nn.Sequential(*(layers if config.ends_active else layers[:-1]))


def chain_up(inputs: int, config: LayerChain) -> nn.Sequential:
    """Hyper-synthesis of convolutions, (B, inputs, h, w) -> (B, config.outputs, 4h, 4w)."""
    return network(synthesis_chain(config, inputs), scaled)


def swin_down(inputs: int, config: SwinStages) -> nn.Sequential:
    """Hyper-analysis of Swin blocks, (B, inputs, 4h, 4w) -> (B, N, h, w)."""
    return nn.Sequential(*down_stages(inputs, config), channels_first())

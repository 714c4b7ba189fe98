"""Times CompressAI's training step: `examples/train.py` of its release 1.2.8, and nothing of ours.

Run by training_speed.py with the Python of an environment that has CompressAI. Prints JSON lines: what runs here,
then one line per step with the seconds of its work and, of them, of waiting for data.
"""

import argparse
import json
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

warnings.simplefilter("ignore")

import compressai_import  # noqa: E402
import torch  # noqa: E402
from compressai.datasets import ImageFolder  # noqa: E402
from compressai.losses import RateDistortionLoss  # noqa: E402
from compressai.optimizers import net_aux_optimizer  # noqa: E402
from compressai.zoo import image_models  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402

LEARNING_RATES = {"net": {"type": "Adam", "lr": 1e-4}, "aux": {"type": "Adam", "lr": 1e-3}}
CLIP_NORM = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder train/ of pictures")
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--quality", type=int, default=3)
    parser.add_argument("--lmbda", type=float, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--crop", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, default=4, help="data loading processes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    net = image_models[arguments.model](quality=arguments.quality)
    print_line(
        compressai=compressai_import.compressai.__version__,
        torch=torch.__version__,
        torchvision=compressai_import.torchvision.__version__,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
    )
    for seconds, data_seconds in timed_steps(net, batches(arguments), arguments.lmbda, arguments.steps):
        print_line(seconds=seconds, data_seconds=data_seconds)


def batches(arguments: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Random crops, epoch after epoch."""
    transform = transforms.Compose([transforms.RandomCrop((arguments.crop, arguments.crop)), transforms.ToTensor()])
    pictures = ImageFolder(arguments.data, split="train", transform=transform)
    # An epoch of the example ends with a smaller batch and starts the workers anew: neither is a training step.
    loader = DataLoader(
        pictures, arguments.batch, shuffle=True, drop_last=True, num_workers=arguments.workers, persistent_workers=True
    )
    while True:
        yield from loader


def timed_steps(
    net: torch.nn.Module, crops: Iterator[torch.Tensor], lmbda: float, steps: int
) -> Iterator[tuple[float, float]]:
    """Seconds of each step, and how many of them went by until its data were there."""
    optimizers = net_aux_optimizer(net, LEARNING_RATES)
    optimizer, aux_optimizer = optimizers["net"], optimizers["aux"]
    criterion = RateDistortionLoss(lmbda=lmbda)
    net.train()
    for _ in range(steps):
        began = time.perf_counter()
        x = next(crops)
        data_seconds = time.perf_counter() - began
        optimizer.zero_grad()
        aux_optimizer.zero_grad()
        out = criterion(net(x), x)
        out["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        aux_loss = net.aux_loss()
        aux_loss.backward()
        aux_optimizer.step()
        yield time.perf_counter() - began, data_seconds


def print_line(**record: object) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

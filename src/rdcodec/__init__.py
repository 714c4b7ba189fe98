"""rdcodec: a neural image codec with real files, and the laboratory that measures it.

    data = rdcodec.compress(image, model="I", quality=50)   # uint8 (H, W, 3) -> bytes
    image = rdcodec.decompress(data)

`load` gives a codec to keep, with targets and reconstructions. Everything heavy is imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdcodec.codec.pipeline import Codec, compress, decompress, load

__all__ = ["Codec", "compress", "decompress", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rdcodec.codec import pipeline

    return getattr(pipeline, name)

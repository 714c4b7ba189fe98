"""rdcodec: a neural image codec with real files, and the laboratory that measures it.

    data = rdcodec.compress("photo.jpg", model="I", quality=50)  # or an array, a PIL picture, bytes of a picture file
    image = rdcodec.decompress(data)  # or a path; uint8 (H, W, 3)
    rdcodec.info("photo.rdc").bpp

`load` gives a codec to keep, with targets and reconstructions; `register_pillow` lets Pillow open and save such files.
Everything heavy is imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdcodec.codec.api import Info, compress, decompress, info
    from rdcodec.codec.engine import set_threads
    from rdcodec.codec.pipeline import Codec, load
    from rdcodec.pillow import register_pillow

__all__ = ["Codec", "Info", "compress", "decompress", "info", "load", "register_pillow", "set_threads"]
__version__ = "0.1.0"

_ROOMS = {
    "Codec": "codec.pipeline",
    "load": "codec.pipeline",
    "register_pillow": "pillow",
    "set_threads": "codec.engine",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"rdcodec.{_ROOMS.get(name, 'codec.api')}"), name)

"""Pillow's plug-ins of HEIC and JPEG XL, loaded when a picture needs one."""

from rdcodec.errors import NeedsModel

_PLUGINS = {"HEIC": "pillow_heif", "JPEG XL": "pillow_jxl"}


def load_plugin(kind: str, before: str) -> None:
    """Register the Pillow plug-in of HEIC or JPEG XL; NeedsModel, with words before it, where it is not installed."""
    try:
        if kind == "HEIC":
            import pillow_heif

            pillow_heif.register_heif_opener()
        else:
            import pillow_jxl  # noqa: F401
    except ModuleNotFoundError:
        package = _PLUGINS[kind].replace("_", "-").replace("jxl", "jxl-plugin")
        raise NeedsModel(f"{before}{kind}, which needs a plug-in: pip install {package}") from None

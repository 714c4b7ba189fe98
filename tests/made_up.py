"""Made-up measurements for tests."""

from rdcodec.metrics import ALWAYS


def metrics(psnr_db: float, psnr_y_db: float, ms_ssim: float | None) -> dict[str, float | None]:
    """Of a picture, as a row has them."""
    known = {"psnr_db": psnr_db, "psnr_y_db": psnr_y_db, "ms_ssim": ms_ssim}
    return dict.fromkeys(metric.name for metric in ALWAYS) | known

"""Made-up measurements for tests."""


def metrics(psnr_db: float, psnr_y_db: float, ms_ssim: float | None) -> dict[str, float | None]:
    """Of a picture, as a row has them."""
    return {"psnr_db": psnr_db, "psnr_y_db": psnr_y_db, "ms_ssim": ms_ssim}

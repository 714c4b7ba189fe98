"""Write docs/models.md and its pictures from the configurations of the models.

python scripts/models_page.py
"""

from pathlib import Path

from rdcodec.report.models_page import IMAGES, draw_models, models_page, packaged

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    configs = packaged()
    (DOCS / IMAGES).mkdir(parents=True, exist_ok=True)
    for name, data in draw_models(configs).items():
        (DOCS / IMAGES / name).write_bytes(data)
    (DOCS / "models.md").write_text(models_page(configs), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write web/src/released.ts: the weights that pages can fetch, with their sizes and SHA-256."""

import hashlib
import re
from pathlib import Path

from rdcodec.errors import NeedsModel
from rdcodec.models.for_pages import PARTS, part_of
from rdcodec.models.weights import released

OUT = Path(__file__).parents[1] / "web" / "src" / "released.ts"


def main() -> None:
    lines = [
        "/** The weights that pages can fetch. Written by scripts/web_weights.py. */",
        "export interface Part {",
        "  bytes: number;",
        "  sha256: string;",
        "}",
        "",
        'export const RELEASED: Record<string, Partial<Record<"decoder" | "encoder", Part>>> = {',
    ]
    for tag, path in sorted(released().items()):
        if not re.fullmatch(r"[HIJ]\.\d+", tag):  # the models that the core runs
            continue
        lines.append(f'  "{tag}": {{')
        for part in PARTS:
            try:
                data = part_of(path, part)
            except NeedsModel:
                continue
            lines.append(f'    {part}: {{ bytes: {len(data)}, sha256: "{hashlib.sha256(data).hexdigest()}" }},')
        lines.append("  },")
    OUT.write_text("\n".join([*lines, "};", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

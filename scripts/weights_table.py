"""Write the table of released weights that the package does not have, with which they are checked when fetched.

python scripts/weights_table.py
"""

import json
from pathlib import Path

from rdcodec.models.elsewhere import TABLE, pin

WEIGHTS = Path(__file__).parents[1] / "weights"


def main() -> None:
    files = [pin(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    table = {file.name: {"bytes": file.size, "sha256": file.sha256} for file in files}
    TABLE.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

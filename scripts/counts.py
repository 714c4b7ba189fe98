"""Write src/rdcodec/data/counts.json, what the packaged models and weights compute, from their configurations.

python scripts/counts.py
"""

import json
from dataclasses import asdict

from rdcodec.measure.cost import COUNTS
from rdcodec.measure.flops import count_config
from rdcodec.models.config import config_names, config_sha256
from rdcodec.models.weights import PACKAGED, find_config, read_weights


def main() -> None:
    configs = {name: find_config(name) for name in config_names()}
    configs |= {path.stem: read_weights(path).config for path in sorted(PACKAGED.glob("*.safetensors"))}
    records = [
        {"model": name, "config_sha256": config_sha256(config), **asdict(count_config(config))}
        for name, config in configs.items()
    ]
    COUNTS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

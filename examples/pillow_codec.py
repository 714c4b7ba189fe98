"""A codec on the command line, for machines without one: `python pillow_codec.py IN OUT [QUALITY]`.

Writes WebP where a quality is given, else decodes to the format of OUT.
"""

import sys

from PIL import Image

source, target, *quality = sys.argv[1:]
with Image.open(source) as picture:
    options = {"format": "WEBP", "quality": int(quality[0])} if quality else {}
    picture.convert("RGB").save(target, **options)

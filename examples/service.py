"""A service: pictures in and .rdc files out, and back. `uvicorn service:app` runs it; docs/services.md explains it."""

import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image

import rdcodec
from rdcodec.errors import BadInput, RdcError, UsageError

MAX_BYTES = 20_000_000  # of a request
MAX_PIXELS = 25_000_000  # of a picture, told from its header before memory is taken
AT_ONCE = 2  # requests that are computed at the same time; the others wait
THREADS = 1  # for each of them

slots = threading.BoundedSemaphore(AT_ONCE)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The first use reads weights and builds tables; here it delays nobody."""
    rdcodec.set_threads(THREADS)
    rdcodec.decompress(rdcodec.compress(np.zeros((64, 64, 3), np.uint8)))
    yield


app = FastAPI(lifespan=lifespan)


async def body(request: Request) -> bytes:
    """The bytes of a request, refused as soon as they are too many."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    return bytes(data)


@app.post("/compress")
def compress(data: Annotated[bytes, Depends(body)], quality: float = 50) -> Response:
    """A picture file to an .rdc file. FastAPI runs functions without `async` in threads."""
    with slots:
        coded = rdcodec.compress(data, quality=quality, max_pixels=MAX_PIXELS)
    return Response(coded, media_type="image/x-rdc")


@app.post("/decompress")
def decompress(data: Annotated[bytes, Depends(body)]) -> Response:
    """An .rdc file to a PNG with its colour profile."""
    file = io.BytesIO()
    with slots:
        picture = Image.fromarray(rdcodec.decompress(data, MAX_PIXELS))
        picture.save(file, "PNG", compress_level=3, icc_profile=rdcodec.info(data).icc)
    return Response(file.getvalue(), media_type="image/png")


@app.exception_handler(RdcError)
def explain(request: Request, error: RdcError) -> JSONResponse:
    """One line that says what is wrong; 500 for what the client cannot mend."""
    status = 422 if isinstance(error, BadInput) else 400 if isinstance(error, UsageError) else 500
    return JSONResponse({"detail": str(error)}, status)

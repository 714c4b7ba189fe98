#!/bin/sh
# Usage: wasm.sh PYTHON FILE. Compiles the codec for pages with the package ziglang of that Python, and writes FILE.sha256.
set -eu
python=$1
mkdir -p "$(dirname "$2")"
out=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$(dirname "$0")"
"$python" -m ziglang c++ -target wasm32-wasi -mcpu=generic+simd128 -mexec-model=reactor -std=c++17 -O3 \
	-ffp-contract=fast -fno-exceptions -fno-rtti -fno-threadsafe-statics -DNDEBUG -DRDC_TARGET=baseline -s \
	-Wl,--gc-sections -Wl,-z,stack-size=1048576 -o "$out" \
	cpu.cpp rans.cpp layers.cpp integers.cpp pixels.cpp light.cpp checkerboard.cpp kernels.cpp wasm.cpp
cd "$(dirname "$out")"
"$python" -c 'import hashlib, sys; from importlib.metadata import version
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "ziglang", version("ziglang"))' \
	"$(basename "$out")" >"$(basename "$out").sha256"

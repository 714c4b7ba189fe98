#!/bin/sh
# Usage: zig.sh FOLDER [options of pip]. Puts a C++ compiler into the folder of programs of a virtual environment,
# for machines that have none. Zig compiles for the processor at hand unless it is told not to.
set -eu
bin=$(cd "$1" && pwd)
shift
"$bin/python" -m pip install --quiet "$@" ziglang
zig=$("$bin/python" -c 'import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
printf '#!/bin/sh\nexec "%s" c++ -mcpu=baseline "$@"\n' "$zig" >"$bin/zig-c++"
chmod +x "$bin/zig-c++"

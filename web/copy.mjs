// The core beside the compiled sources.
import { copyFileSync } from "node:fs";

copyFileSync("../src/rdcodec/web/rdc.wasm", "dist/rdc.wasm");

/** A helper of the worker: draws strips of pictures with an instance of the core of its own. */
import { Core } from "./core.js";
import { draw, type Drawn, type Told } from "./strips.js";

const scope = self as unknown as { onmessage: unknown; postMessage(drawn: Drawn, transfer: Transferable[]): void };
let core: Core | undefined;

scope.onmessage = ({ data }: MessageEvent<Told>) => {
  if ("module" in data) {
    core = new Core(data.module, data.tag, () => data.arrays);
    return;
  }
  let drawn: Drawn["data"];
  try {
    drawn = draw(core!, data.strip);
  } catch {
    drawn = undefined; // the worker draws the whole picture itself, and says what is wrong
  }
  scope.postMessage({ id: data.id, data: drawn }, drawn ? [drawn.buffer] : []);
};

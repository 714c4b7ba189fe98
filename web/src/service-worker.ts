/** The page without a network: what was fetched is kept, and taken where nothing can be fetched. Weights are kept apart. */
{
  const SHELL = "rdcodec-page-1";
  const FILES = ["./", "style.css", "icon.svg", "sample.png", "rdc.wasm", ...["alpha", "codec", "container", "core", "crc32c", "errors",
    "index", "page", "png", "released", "store", "weights", "worker"].map((name) => `${name}.js`)];
  const scope = self as any;

  scope.addEventListener("install", (event: any) => {
    event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => scope.skipWaiting()));
  });
  scope.addEventListener("activate", (event: any) => event.waitUntil(scope.clients.claim()));
  scope.addEventListener("fetch", (event: any) => {
    const { request } = event;
    if (request.method !== "GET" || request.url.endsWith(".safetensors")) return;
    event.respondWith(
      fetch(request).catch(async () => (await caches.match(request, { ignoreSearch: true })) ?? Response.error()),
    );
  });
}

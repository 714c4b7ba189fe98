"use strict";
/** The page without a network: what was fetched last is kept, and taken where nothing can be. Weights are kept apart. */
{
    const SHELL = "rdcodec-page-3";
    const FILES = ["./", "style.css", "icon.svg", "sample.png", "rdc.wasm", ...["alpha", "codec", "container", "core", "crc32c", "errors",
            "flat", "helper", "index", "page", "png", "released", "store", "strips", "weights", "worker"].map((name) => `${name}.js`)];
    const scope = self;
    scope.addEventListener("install", (event) => {
        event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => scope.skipWaiting()));
    });
    scope.addEventListener("activate", (event) => event.waitUntil(forgetOlder().then(() => scope.clients.claim())));
    scope.addEventListener("fetch", (event) => {
        const { method, url } = event.request;
        if (method === "GET" && url.startsWith(scope.registration.scope) && !url.endsWith(".safetensors"))
            event.respondWith(newest(event.request));
    });
    async function newest(request) {
        const cache = await caches.open(SHELL);
        try {
            const response = await fetch(request), known = await cache.match(request);
            if (known && response.status === 200)
                await cache.put(request, response.clone()).catch(() => undefined);
            return response;
        }
        catch {
            return (await cache.match(request, { ignoreSearch: true })) ?? Response.error();
        }
    }
    async function forgetOlder() {
        const names = (await caches.keys()).filter((name) => name.startsWith("rdcodec-page-") && name !== SHELL);
        await Promise.all(names.map((name) => caches.delete(name)));
    }
}

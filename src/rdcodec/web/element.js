/** `<rdc-img src="photo.rdc" alt="..." weights="/weights/">`: a picture as `<img>`, with a slot for what comes instead. */
import { decode, info } from "./index.js";
import { RdcError } from "./errors.js";
const STYLE = `:host { display: inline-block; max-width: 100%; } :host([hidden]) { display: none; }
canvas { display: block; width: 100%; height: auto; } slot { display: none; } :host([failed]) slot { display: block; }
:host([failed]) canvas { display: none; }`;
export class RdcImage extends HTMLElement {
    static observedAttributes = ["src", "alt", "weights"];
    canvas = document.createElement("canvas");
    seen = new IntersectionObserver((entries) => this.onSeen(entries), { rootMargin: "300px" });
    instead = document.createElement("slot");
    loading = 0; // of what was asked for last: what an earlier load brings is dropped
    fetching = new AbortController();
    constructor() {
        super();
        const style = document.createElement("style");
        style.textContent = STYLE;
        this.canvas.setAttribute("role", "img");
        this.attachShadow({ mode: "open" }).append(style, this.canvas, this.instead);
    }
    connectedCallback() {
        this.seen.observe(this);
    }
    disconnectedCallback() {
        this.seen.disconnect();
        this.stop();
    }
    attributeChangedCallback(name, before, after) {
        if (name === "alt")
            return this.describe(after);
        if (before === after || !this.isConnected)
            return;
        this.stop();
        this.seen.unobserve(this);
        this.seen.observe(this);
    }
    /** As of `<img>`: the words stand for a picture that cannot be shown, and none ("") are for decoration. */
    describe(alt) {
        this.canvas.setAttribute("role", alt === "" ? "presentation" : "img");
        this.canvas.setAttribute("aria-label", alt ?? "");
        this.instead.textContent = alt;
    }
    stop() {
        this.loading++;
        this.fetching.abort();
    }
    onSeen(entries) {
        if (!entries.some((entry) => entry.isIntersecting))
            return;
        this.seen.unobserve(this);
        void this.load(++this.loading);
    }
    async load(turn) {
        const src = this.getAttribute("src");
        this.removeAttribute("failed");
        if (!src) {
            Object.assign(this.canvas, { width: 0, height: 0 });
            return;
        }
        this.fetching = new AbortController();
        try {
            const response = await fetch(src, { signal: this.fetching.signal });
            if (!response.ok)
                throw new RdcError(`${src} could not be fetched (${response.status})`);
            const data = new Uint8Array(await response.arrayBuffer());
            const { width, height } = info(data);
            if (turn !== this.loading)
                return;
            Object.assign(this.canvas, { width, height }); // the space it takes, before it is there
            const image = await decode(data, { weights: this.getAttribute("weights") ?? "weights/" });
            if (turn !== this.loading)
                return;
            this.canvas.getContext("2d").putImageData(image, 0, 0);
            this.dispatchEvent(new Event("load"));
        }
        catch (error) {
            if (turn !== this.loading)
                return;
            this.setAttribute("failed", "");
            this.dispatchEvent(new ErrorEvent("error", { error, message: error instanceof Error ? error.message : String(error) }));
        }
    }
}
if (!customElements.get("rdc-img"))
    customElements.define("rdc-img", RdcImage);

// The service worker: keeps this build of the page for use without a network, and gives it the headers that its host may not be able to send
// (COOP and COEP, which threads need, and the content security policy). It asks its own origin alone. web/build puts the constant BUILD in
// front: {version, files: {name: SHA-256}, policy, downloadPolicy, downloadScript}.

/* global BUILD */
const SCOPE = new URL("./", location.href);
const PREFIX = `tabtune ${SCOPE.pathname} `; // of this copy of the page: its origin may have others in other folders
const NAME = PREFIX + BUILD.version;
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", wasm: "application/wasm", svg: "image/svg+xml",
  png: "image/png", csv: "text/csv; charset=utf-8", jsonl: "application/jsonl", webmanifest: "application/manifest+json" };

/** The same response with the headers that this build needs. @param {string} name @param {BodyInit | null} body @param {Response} from */
function withHeaders(name, body, from) {
  const headers = new Headers(from.headers);
  for (const h of ["Content-Encoding", "Content-Length"]) headers.delete(h); // of the body as it crossed the network
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  headers.set("X-Content-Type-Options", "nosniff");
  headers.set("Content-Security-Policy", name === BUILD.downloadScript ? BUILD.downloadPolicy : BUILD.policy);
  const type = TYPES[name.split(".").pop()];
  if (type) headers.set("Content-Type", type);
  return new Response(body, { status: from.status, statusText: from.statusText, headers });
}

/**
 * Fetches one file and keeps it if it is the one that was built: a host in the middle of an update serves a mixture. A copy that the browser has is
 * asked for first; a host that tells files apart by the second confirms one that was replaced within it, so the host is then asked for its own.
 */
async function keep(cache, name) {
  const url = new URL(name === "index.html" ? "./" : name, SCOPE);
  for (const mode of ["no-cache", "reload"]) {
    const res = await fetch(url, { cache: mode });
    if (!res.ok) throw new Error(`${name}: the server answers ${res.status}`);
    const body = await res.arrayBuffer();
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
    const hex = Array.from(sum, (b) => b.toString(16).padStart(2, "0")).join("");
    if (hex !== BUILD.files[name]) continue;
    await cache.put(new URL(name, SCOPE), withHeaders(name, body, res));
    return;
  }
  throw new Error(`${name} is not of this build`);
}

/** Fetches all files that are not kept yet. */
async function fill(cache) {
  const kept = new Set((await cache.keys()).map((request) => request.url));
  await Promise.all(Object.keys(BUILD.files).filter((name) => !kept.has(new URL(name, SCOPE).href)).map((name) => keep(cache, name)));
}

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then(fill));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== NAME) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("message", (event) => {
  if (event.data === "use") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== SCOPE.origin || !url.pathname.startsWith(SCOPE.pathname)) return;
  const name = url.pathname.slice(SCOPE.pathname.length) || "index.html";
  if (Object.hasOwn(BUILD.files, name)) event.respondWith(answer(name, event.request));
});

/** @type {Promise<void> | null} fill under way */
let filling = null;
let hopeless = false; // the host has another build by now, or there is no room: everything comes from the network

async function answer(name, request) {
  const at = new URL(name, SCOPE);
  const cache = await caches.open(NAME);
  const stored = await cache.match(at);
  if (stored) return stored;
  const opens = request.mode === "navigate";
  if (!hopeless) { // the browser dropped the cache
    try {
      if (opens) await keep(cache, name);
      else await (filling ??= fill(cache).finally(() => { filling = null; }));
      const kept = await cache.match(at);
      if (kept) return kept;
    } catch (e) {
      if (!(e instanceof TypeError)) { // anything but no network; a part of a build is of no use
        hopeless = true;
        await caches.delete(NAME);
      }
    }
  }
  // From the network only where nothing of this build is left that it could be mixed with.
  if (!opens && !hopeless && (await cache.keys()).length > 0) return Response.error();
  const res = await fetch(request);
  return res.ok ? withHeaders(name, res.body, res) : res;
}

// The service worker: keeps this build of the page for use without a network, and gives it the headers that its host may not be able to send
// (COOP and COEP, which threads need, and the content security policy). It asks its own origin alone. web/build puts the constant BUILD in
// front: {version, files: {name: SHA-256}, policy, downloadPolicy, downloadScript}.

/* global BUILD */
const NAME = `tabtune ${BUILD.version}`;
const SCOPE = new URL("./", location.href);
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

/** Fetches one file and keeps it if it is the one that was built: a host in the middle of an update serves a mixture. */
async function keep(cache, name) {
  const url = new URL(name === "index.html" ? "./" : name, SCOPE);
  const res = await fetch(url, { cache: "no-cache" });
  if (!res.ok) throw new Error(`${name}: the server answers ${res.status}`);
  const body = await res.arrayBuffer();
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const hex = Array.from(sum, (b) => b.toString(16).padStart(2, "0")).join("");
  if (hex !== BUILD.files[name]) throw new Error(`${name} is not of this build`);
  await cache.put(new URL(name, SCOPE), withHeaders(name, body, res));
}

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then((cache) => Promise.all(Object.keys(BUILD.files).map((name) => keep(cache, name)))));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith("tabtune ") && name !== NAME) await caches.delete(name);
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

async function answer(name, request) {
  const stored = await (await caches.open(NAME)).match(new URL(name, SCOPE));
  if (stored) return stored;
  const res = await fetch(request); // the browser dropped the cache
  return res.ok ? withHeaders(name, res.body, res) : res;
}

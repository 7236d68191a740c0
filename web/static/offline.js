// The page's side of the service worker: isolation where the host sends no headers for it, use without a network, and the notice of an update.

const TRIED = "tabtune isolation";

/** sessionStorage, or nothing where the browser denies it. */
const memory = (() => {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
})();

/** Registers the service worker; null where there is none (a private window, plain http). */
async function register() {
  try {
    return (await navigator.serviceWorker?.register("sw.js")) ?? null;
  } catch (e) {
    console.info(`no service worker: ${e.message}`);
    return null;
  }
}

/**
 * Where the host did not isolate the page, the service worker can: it is registered and the page loaded again, once. Resolves to true when the
 * page is being loaded again. Without a service worker the page runs on one thread.
 * @param {(text: string) => void} say
 */
export async function isolate(say) {
  if (globalThis.crossOriginIsolated) {
    memory?.removeItem(TRIED);
    return false;
  }
  if (!memory || memory.getItem(TRIED)) return false;
  say("Preparing this page for use with several threads and without a network.");
  const registration = await register();
  if (!registration) return false;
  const late = new Promise((resolve) => setTimeout(resolve, 60000));
  await Promise.race([navigator.serviceWorker.ready, failed(registration), late]);
  if (!registration.active) return false;
  memory.setItem(TRIED, "1");
  location.reload();
  return true;
}

/** Resolves when the version being installed is given up. */
function failed(registration) {
  return new Promise((resolve) => {
    const worker = registration.installing;
    worker?.addEventListener("statechange", () => worker.state === "redundant" && resolve());
  });
}

/** Whether a run is open, in this tab or another one: each holds a lock. */
async function runs() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return held.some((lock) => lock.name.startsWith("tabtune run "));
}

/**
 * Whether the page comes from a server on this machine that isolates it by itself: that server is there whenever the page is asked for, and after it
 * was built anew its page is wanted, not a stored one. An installed page is kept all the same.
 */
async function servedHere() {
  if (!/^(localhost|127(\.\d+){3}|\[::1\])$/.test(location.hostname) || !globalThis.crossOriginIsolated || matchMedia("(display-mode: standalone)").matches) return false;
  if (!navigator.serviceWorker?.controller) return true;
  try { // sw.js is not of the files that the service worker answers for
    const { headers } = await fetch("sw.js", { method: "HEAD", cache: "no-store" });
    return headers.get("Cross-Origin-Opener-Policy") === "same-origin" && headers.has("Cross-Origin-Embedder-Policy");
  } catch {
    return false; // that server is not running
  }
}

/** Takes back what keep did. The next loading of the page asks the server. */
async function forget() {
  const registration = await navigator.serviceWorker?.getRegistration();
  if (registration && new URL("./", location.href).href === registration.scope) await registration.unregister();
  if (navigator.serviceWorker?.controller) return; // still at work, for this page
  for (const name of await caches.keys()) if (name.startsWith(`tabtune ${new URL("./", location.href).pathname} `)) await caches.delete(name);
}

/** Keeps the page for use without a network, and tells when a newer one is stored. Its use is the visitor's to say: it loads the page again. */
export async function keep() {
  if (await servedHere()) {
    await forget();
    return;
  }
  const registration = await register();
  if (!registration) return;
  const notice = document.getElementById("update");
  const offer = () => {
    if (registration.waiting && navigator.serviceWorker.controller) notice.hidden = false;
  };
  offer();
  registration.installing?.addEventListener("statechange", offer); // found before this program ran
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", offer));
  document.getElementById("update-now").addEventListener("click", async () => {
    if (await runs()) {
      document.getElementById("update-text").textContent = "A run is open in this tab or another one. Use the newer version when it has ended.";
      return;
    }
    if (!registration.waiting) { // another tab has taken it into use
      location.reload();
      return;
    }
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
    registration.waiting.postMessage("use");
  });
}

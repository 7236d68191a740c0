// Starts the page. vugu hands its DOM script to window.eval; the content security policy forbids eval, so that script came as a file
// (vugu-dom.js) and eval answers for exactly that text and refuses everything else.

import { isolate, keep } from "./offline.js";

// The privacy panel reads the browser's own log of requests, which is 250 long unless told otherwise.
performance.setResourceTimingBufferSize?.(5000);

const status = document.getElementById("starting");

/** @param {string} text */
function say(text) {
  if (status) status.textContent = text;
}

async function start() {
  if (typeof WebAssembly !== "object" || !isSecureContext || !navigator.locks) {
    say("This browser is too old to train a model, or this page was not opened over https or from this device. Use a current Chrome, Edge, Firefox or Safari.");
    return;
  }
  if (await isolate(say)) return;
  say("Starting.");
  const [text, page] = await Promise.all([fetch("vugu-dom.js").then((r) => r.text()), fetch("page.wasm")]);
  if (!page.ok) throw new Error(`the server answers ${page.status} for page.wasm`);
  window.eval = (/** @type {string} */ code) => {
    if (code !== text) throw new EvalError("eval is refused");
  };
  const go = new Go();
  const typed = page.headers.get("Content-Type")?.startsWith("application/wasm");
  const { instance } = typed ? await WebAssembly.instantiateStreaming(page, go.importObject) : await WebAssembly.instantiate(await page.arrayBuffer(), go.importObject);
  const ended = go.run(instance);
  void keep();
  await ended;
  throw new Error("the page's program ended");
}

start().catch((e) => {
  console.error(e);
  const box = document.createElement("p");
  box.setAttribute("role", "alert");
  box.id = "problem-text";
  box.textContent = `The page could not go on: ${e.message}. Reload it; saved runs are kept.`;
  document.body.prepend(box);
});

// A classic worker, since Emscripten's plain scripts are no modules: open {url} starts the user's build, load {bytes} and execute {method, inputs,
// output} run programs on it (../engine/stock.js). Answers: {id, result} or {id, error}.

/** @type {any} */
let runtime = null;

/** @param {string} url @returns {Promise<any>} the object with Module, Tensor and ScalarType */
async function bindings(url) {
  const locateFile = (/** @type {string} */ name) => new URL(name, url).href;
  if (new URL(url).pathname.endsWith(".mjs")) { // -sEXPORT_ES6: the default export makes an instance
    const { default: factory } = await import(url);
    return typeof factory === "function" ? factory({ locateFile }) : factory;
  }
  return new Promise((resolve, reject) => { // a plain script takes up the global Module and says when it is ready
    const scope = /** @type {any} */ (self);
    scope.Module = { locateFile, onRuntimeInitialized: () => resolve(scope.Module), onAbort: (/** @type {any} */ why) => reject(new Error(`it has ended: ${why}`)) };
    /** @type {any} */ (self).importScripts(url);
  });
}

self.onmessage = async (/** @type {MessageEvent} */ { data }) => {
  try {
    let result;
    switch (data.op) {
      case "open": {
        const { StockRuntime } = await import("../engine/stock.js");
        runtime = new StockRuntime(await bindings(data.url));
        break;
      }
      case "load":
        runtime.load(data.bytes);
        break;
      case "execute":
        result = runtime.execute(data.method, data.inputs, data.output);
    }
    self.postMessage({ id: data.id, result }, { transfer: result ? [result.buffer] : [] });
  } catch (e) {
    self.postMessage({ id: data.id, error: String(/** @type {any} */ (e)?.message ?? e) });
  }
};

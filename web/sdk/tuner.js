// The trainer without the page: fine-tunes a model in a Web Worker of the embedding page's own origin. It speaks the protocol of
// worker/worker.js, which is the page's too; nothing else is needed and nothing leaves the device. The types are in tuner.d.ts.

/** A request of the worker that failed: `code` to act on, `message` to show, `detail` for a bug report. */
export class TunerError extends Error {
  constructor({ code, message, detail }) {
    super(message);
    this.name = "TunerError";
    this.code = code;
    this.detail = detail;
  }
}

/** A task under way: an async iterable of its events, and a promise of its value. */
class Task {
  #queue = [];
  #wake = null;
  #ended = false;
  #iterated = false;

  constructor(request, control, signal) {
    this.result = request((event) => {
      this.#queue.push(event);
      this.#wake?.();
    }).finally(() => {
      this.#ended = true;
      this.#wake?.();
      signal?.removeEventListener("abort", this.stop);
    });
    this.result.catch(() => {}); // whoever iterates or awaits sees it
    this.#control = control;
    if (signal?.aborted) this.stop();
    signal?.addEventListener("abort", this.stop, { once: true });
  }

  #control;
  pause = () => this.#control("pause");
  resume = () => this.#control("resume");
  stop = () => this.#control("stop");

  async *[Symbol.asyncIterator]() {
    if (this.#iterated) throw new TypeError("the events of a task can be read once");
    this.#iterated = true;
    try {
      for (;;) {
        while (this.#queue.length) yield this.#queue.shift();
        if (this.#ended) break;
        await new Promise((resolve) => { this.#wake = resolve; });
      }
    } finally {
      if (!this.#ended) this.stop(); // the loop was left: nobody waits for the rest
    }
    await this.result; // a failed task ends the loop with its error
  }
}

class Tuner extends EventTarget {
  #worker;
  #last = 0;
  #pending = new Map();
  #dead = null;

  constructor(worker) {
    super();
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (e) => this.#die(new TunerError({ code: "crashed", message: "The training engine could not be started or stopped unexpectedly.", detail: e.message }));
  }

  /** Any method of the worker or the module. */
  call(method, params = {}, onEvent) {
    return this.#send(method, params, onEvent).promise;
  }

  /** Any task of the module: `method` without ".start". */
  task(method, params = {}, { signal } = {}) {
    let id = 0;
    return new Task((onEvent) => {
      const sent = this.#send(`${method}.start`, params, (event) => {
        onEvent(event);
        this.dispatchEvent(new CustomEvent(event.type, { detail: event }));
      });
      id = sent.id;
      return sent.promise;
    }, (verb) => {
      this.call(`task.${verb}`, { id }).catch(() => {}); // a task that has ended has nothing to stop
    }, signal);
  }

  /** Opens a model: a File, an address of the page's own origin, or the name of one that is stored. */
  async openModel({ file, url, name, sha256, bytes, dtype = "int8", signal, onProgress }) {
    const path = `/models/${plain(name ?? file?.name ?? new URL(url, location.href).pathname.split("/").pop())}`;
    const abortable = async (method, params) => {
      signal?.throwIfAborted();
      const { id, promise } = this.#send(method, params, onProgress);
      const stop = () => this.call("task.stop", { id }).catch(() => {});
      signal?.addEventListener("abort", stop, { once: true });
      try {
        const value = await promise;
        signal?.throwIfAborted();
        return value;
      } finally {
        signal?.removeEventListener("abort", stop);
      }
    };
    if (file) await abortable("store.import", { path, file });
    else if (url) await abortable("store.download", { path, url: new URL(url, location.href).href, sha256, bytes });
    return abortable("model.open.start", { path, dtype });
  }

  /** Opens data: rows as objects, or the text of a CSV, TSV or JSONL file. `val` is how many rows to hold out. */
  async openData({ rows, text, format = rows ? "jsonl" : "csv", name = "sdk", val, ...options }) {
    const path = `/data/${plain(name)}.${format}`;
    await this.call("store.close", { path });
    await this.call("store.write", { path, text: rows ? rows.map((r) => JSON.stringify(r)).join("\n") : text });
    return this.call("data.open.start", { path, val: { rows: val ?? Math.max(1, Math.floor((rows?.length ?? text.split("\n").length) / 5)) }, seed: 0, ...options });
  }

  /** Trains: a task whose events are "lr", "step" and "eval". With `run` of an earlier one and `resume` it goes on from its log. */
  train({ run = new Date().toISOString().replace(/\D/g, "").slice(0, 14), signal, ...params } = {}) {
    const task = this.task("train", { out: `/runs/${plain(run)}`, layers: 4, modules: ["q", "v"], rank: 16, alpha: 32, queries: 8, batch: 8, eps: 0.01, lr: "auto", steps: 150, evalEvery: 25, ...params }, { signal });
    task.run = plain(run);
    return task;
  }

  /** Continues a prompt: a task whose events are "token". `adapter: false` asks the model as it was. */
  generate(prompt, { signal, ...params } = {}) {
    return this.task("generate", { prompt, maxTokens: 32, temperature: 0, seed: 0, chat: false, adapter: true, ...params }, { signal });
  }

  /** Scores the held-out rows. */
  evaluate({ signal, ...params } = {}) {
    return this.task("eval", { split: "val", ...params }, { signal });
  }

  /** A run's adapter in a format of the module's "export", as a File. */
  async exportRun(run, format = "gguf-adapter") {
    const ending = format === "card" ? "md" : "gguf";
    const large = format === "gguf-q8_0" || format === "gguf-f16";
    const path = large ? `/models/${plain(run)}-${format}.gguf` : `/runs/${plain(run)}/export/${format}.${ending}`;
    await this.call("export.start", { format, path, run: `/runs/${plain(run)}` });
    await this.call("run.release", { run: plain(run) });
    return (await this.call("store.file", { path })).file;
  }

  /** Ends the worker, which frees everything it holds. Requests under way fail with code "closed". */
  close() {
    this.#die(new TunerError({ code: "closed", message: "The tuner was closed." }));
  }

  #send(method, params, onEvent) {
    const id = ++this.#last;
    const promise = new Promise((resolve, reject) => {
      if (this.#dead) {
        reject(this.#dead);
        return;
      }
      this.#pending.set(id, { resolve, reject, onEvent });
      this.#worker.postMessage({ id, method, params });
    });
    return { id, promise };
  }

  #receive({ id, event, result, error }) {
    const request = this.#pending.get(id);
    if (!request) return;
    if (event !== undefined) {
      request.onEvent?.(event);
      return;
    }
    this.#pending.delete(id);
    if (error) request.reject(new TunerError(error));
    else request.resolve(result);
    if (error?.code === "crashed" || error?.code === "out_of_memory") this.#die(new TunerError(error));
  }

  #die(error) {
    if (this.#dead) return;
    this.#dead = error;
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    if (error.code !== "closed") this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }
}

/** A name that the storage takes. */
function plain(name) {
  return String(name).replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[._-]+/, "").slice(-100) || "file";
}

/** Starts the engine. `base` is where the site's files are (the folder that holds worker/); it must be of the page's own origin. */
export async function createTuner({ base = new URL("../", import.meta.url), threads = Math.min(8, navigator.hardwareConcurrency || 1), memoryLimit = 2 ** 32, signal } = {}) {
  signal?.throwIfAborted();
  const tuner = new Tuner(new Worker(new URL("worker/worker.js", new URL(base, location.href)), { type: "module", name: "tabtune" }));
  const stop = () => tuner.close();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    tuner.hello = await tuner.call("boot", { threads, memoryLimit });
  } catch (e) {
    tuner.close();
    throw e;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
  return tuner;
}

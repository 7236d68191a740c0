// What the module sees as its file system: /models and /data are read-only OPFS files, /runs/<id> is a small folder in memory that is loaded
// from OPFS before a run and written back after every event. WASI calls cannot wait, OPFS can only be opened by waiting: hence both.

import { Directory, File, PreopenDirectory, wasi } from "./wasi/index.js";
import { CodedError } from "./errors.js";
import { OpenReadOnlyFile, ReadOnlyFile } from "./readonly.js";
import { commit, fileHandle, list, openSync, parts, readWhole, remove, writeWhole } from "./store.js";

/** An OPFS file, read-only. */
class StoredFile extends ReadOnlyFile {
  /** @param {FileSystemSyncAccessHandle} handle */
  constructor(handle) {
    super({ bytes: handle.getSize(), read: (to, at) => handle.read(to, { at }) });
    this.handle = handle;
  }
}

/** A file that the module writes: its bytes go straight to OPFS, whatever its size. */
class StoredOutput extends StoredFile {
  /** @param {number} oflags */
  path_open(oflags) {
    if ((oflags & wasi.OFLAGS_TRUNC) !== 0) this.truncate();
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: new OpenStoredOutput(this) };
  }

  truncate() {
    this.handle.truncate(0);
    this.bytes = 0;
  }
}

class OpenStoredOutput extends OpenReadOnlyFile {
  /** @param {StoredOutput} output */
  constructor(output) {
    super(output);
    this.output = output;
  }

  /** @param {Uint8Array} data */
  fd_write(data) {
    let n = 0;
    try {
      n = this.output.handle.write(data, { at: this.position });
    } catch (e) {
      return { ret: /** @type {any} */ (e)?.name === "QuotaExceededError" ? wasi.ERRNO_NOSPC : wasi.ERRNO_IO, nwritten: 0 };
    }
    this.position += n;
    this.output.bytes = Math.max(this.output.bytes, this.position);
    return { ret: n === data.length ? wasi.ERRNO_SUCCESS : wasi.ERRNO_NOSPC, nwritten: n };
  }

  fd_sync() {
    this.output.handle.flush();
    return wasi.ERRNO_SUCCESS;
  }
}

/** @param {any} v @param {(s: string) => void} visit Calls visit with every string in a JSON value. */
function strings(v, visit) {
  if (typeof v === "string") visit(v);
  else if (v && typeof v === "object") for (const k of Object.keys(v)) strings(v[k], visit);
}

/** A run whose lock this worker holds. */
class Run {
  /** @param {string} id @param {Directory} dir @param {() => void} release */
  constructor(id, dir, release) {
    this.id = id;
    this.dir = dir;
    this.release = release;
    /** @type {Map<string, Uint8Array>} what OPFS holds: whole bytes of each file */
    this.saved = new Map();
    /** @type {Map<string, FileSystemSyncAccessHandle>} append-only files, kept open */
    this.logs = new Map();
  }
}

/** The three folders. */
export class Files {
  models = new PreopenDirectory("/models", new Map());
  data = new PreopenDirectory("/data", new Map());
  runsDir = new PreopenDirectory("/runs", new Map());
  scratch = new PreopenDirectory("/scratch", new Map()); // what passes through memory alone
  /** @type {Map<string, Run>} */
  #runs = new Map();

  /** Opens every stored file and run that the parameters of a call name. @param {any} params */
  async prepare(params) {
    /** @type {Set<string>} */
    const paths = new Set();
    strings(params, (s) => {
      if (/^\/(models|data|runs)\//.test(s)) paths.add(s);
    });
    for (const path of paths) {
      const p = parts(path);
      if (p[0] === "runs") await this.#openRun(p[1]);
      else await this.#openFile(path, p);
    }
  }

  /** @param {string} path @param {string[]} p */
  async #openFile(path, p) {
    const dir = (p[0] === "models" ? this.models : this.data).dir.contents;
    if (p.length !== 2) throw new CodedError("invalid_params", `${path}: no such folder`);
    if (dir.has(p[1])) return;
    /** @type {FileSystemFileHandle} */
    let h;
    try {
      h = await fileHandle(path);
    } catch (e) {
      if (/** @type {any} */ (e)?.name !== "NotFoundError") throw e;
      throw new CodedError("not_found", `${p[1]} is not stored in this browser any more. Load it again.`);
    }
    // "read-only" lets several tabs read one model; browsers without it ignore the option and lock the file.
    dir.set(p[1], new StoredFile(await openSync(h, { mode: "read-only" })));
  }

  /** Takes a file out of /scratch. @param {string} path @returns {Uint8Array} */
  take(path) {
    const name = path.slice("/scratch/".length);
    const f = this.scratch.dir.contents.get(name);
    this.scratch.dir.contents.delete(name);
    if (!(f instanceof File)) throw new CodedError("not_found", `${path} was not written`);
    return f.data;
  }

  /**
   * Makes a place for a large file that the module is about to write (as NAME.new, which it then renames): it becomes NAME in OPFS when the module
   * is done, or nothing.
   * @param {string} path
   * @returns {Promise<(ok: boolean) => Promise<void>>} to be called at the end
   */
  async output(path) {
    const p = parts(path);
    if (p[0] !== "models" || p.length !== 2) throw new CodedError("invalid_params", `${path}: models are written to /models`);
    this.close(path);
    const { contents } = this.models.dir;
    const handle = await openSync(await fileHandle(`${path}.part`, true));
    const out = new StoredOutput(handle);
    out.truncate();
    contents.set(`${p[1]}.new`, out);
    return async (ok) => {
      const whole = ok && contents.get(p[1]) === out;
      contents.delete(`${p[1]}.new`);
      contents.delete(p[1]);
      handle.flush();
      handle.close();
      if (whole) await commit(path);
      else await remove(`${path}.part`);
    };
  }

  /** @param {string} path of a model or data */
  isOpen(path) {
    const p = parts(path);
    return (p[0] === "models" ? this.models : this.data).dir.contents.has(p[1]);
  }

  /** Closes a stored file so that it can be replaced or deleted. @param {string} path */
  close(path) {
    const p = parts(path);
    if (p[0] === "runs") return this.releaseRun(p[1]);
    const dir = (p[0] === "models" ? this.models : this.data).dir.contents;
    const f = dir.get(p[1]);
    if (f instanceof StoredFile) f.handle.close();
    dir.delete(p[1]);
  }

  /** @param {string} id */
  async #openRun(id) {
    if (this.#runs.has(id)) return;
    const release = await lock(`tabtune run ${id}`);
    if (!release) throw new CodedError("locked", "This run is open in another tab. Go on there, or close that tab first.");
    const dir = new Directory(new Map());
    const run = new Run(id, dir, release);
    try {
      const prefix = `/runs/${id}/`;
      for (const f of (await list()).files) {
        if (!f.path.startsWith(prefix) || f.path.endsWith(".part")) continue;
        const data = await readWhole(f.path);
        run.saved.set(f.path.slice(prefix.length), data.slice());
        let at = dir.contents;
        const names = f.path.slice(prefix.length).split("/");
        for (const name of names.slice(0, -1)) {
          if (!at.has(name)) at.set(name, new Directory(new Map()));
          at = /** @type {Directory} */ (at.get(name)).contents;
        }
        at.set(/** @type {string} */ (names.at(-1)), new File(data));
      }
    } catch (e) {
      release();
      throw e;
    }
    this.runsDir.dir.contents.set(id, dir);
    this.#runs.set(id, run);
  }

  /** @param {string} id */
  releaseRun(id) {
    const run = this.#runs.get(id);
    if (!run) return;
    for (const h of run.logs.values()) h.close();
    this.runsDir.dir.contents.delete(id);
    this.#runs.delete(id);
    run.release();
  }

  /** Writes what the module changed in its runs to OPFS. Logs grow in place, other files are replaced whole. */
  async persist() {
    for (const run of this.#runs.values()) await persistDir(run, run.dir, "");
  }
}

/** @param {Run} run @param {Directory} dir @param {string} at */
async function persistDir(run, dir, at) {
  for (const [name, node] of [...dir.contents]) {
    const path = at + name;
    if (node instanceof Directory) await persistDir(run, node, path + "/");
    else if (node instanceof File) await persistFile(run, path, node.data);
  }
}

/** @param {Run} run @param {string} path @param {Uint8Array} data */
async function persistFile(run, path, data) {
  const saved = run.saved.get(path);
  if (saved && equal(saved, data, 0)) return;
  const full = `/runs/${run.id}/${path}`;
  if (!/\.(log|jsonl)$/.test(path)) {
    // Temporary files of the module's own write-then-rename never outlive a call; a name that OPFS would refuse is one of those.
    if (/(^|\/)\.|\.(tmp|part)$/.test(path)) return;
    await writeWhole(full, data);
    run.saved.set(path, data.slice());
    return;
  }
  let h = run.logs.get(path);
  if (!h) {
    h = await openSync(await fileHandle(full, true));
    run.logs.set(path, h);
  }
  let from = saved?.length ?? 0;
  if (saved && (data.length < from || !equal(saved, data, Math.max(0, from - 256)))) from = 0;
  if (data.length < h.getSize()) h.truncate(data.length);
  const tail = data.subarray(from);
  if (h.write(tail, { at: from }) !== tail.length) throw new DOMException("short write", "QuotaExceededError");
  h.flush();
  run.saved.set(path, data.slice());
}

/** Whether b starts with a (and, for from = 0, equals it), comparing from an offset on. @param {Uint8Array} a @param {Uint8Array} b @param {number} from */
function equal(a, b, from) {
  if (b.length < a.length || (from === 0 && a.length !== b.length)) return false;
  for (let i = from; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Takes a Web Lock without waiting. @param {string} name @returns {Promise<(() => void) | null>} how to give it back, or null when taken */
function lock(name) {
  return new Promise((resolve, reject) => {
    navigator.locks.request(name, { ifAvailable: true }, (l) => {
      if (!l) {
        resolve(null);
        return;
      }
      return new Promise((/** @type {(v?: any) => void} */ release) => resolve(() => release()));
    }).catch(reject);
  });
}

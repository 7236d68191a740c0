// The files that tabtune.wasm sees here: /files holds what FS.writeFile, Module.load and Module.loadAsync were given, in memory, or in Node files of
// the disk that are read a piece at a time; /out is where the module writes for this API. Nothing else is visible to it.

import { ReadOnlyFile } from "../worker/readonly.js";
import { File, PreopenDirectory, wasi } from "../worker/wasi/index.js";

/** A file of Node's disk, read-only. */
class DiskFile extends ReadOnlyFile {
  /** @param {any} fs @param {string} path */
  constructor(fs, path) {
    const descriptor = fs.openSync(path, "r");
    const st = fs.fstatSync(descriptor);
    if (!st.isFile()) {
      fs.closeSync(descriptor);
      throw new Error(`${path} is not a file`);
    }
    super({ bytes: st.size, read: (to, at) => fs.readSync(descriptor, to, 0, to.length, at) });
    this.close = () => fs.closeSync(descriptor);
  }
}

export class Files {
  files = new PreopenDirectory("/files", new Map());
  out = new PreopenDirectory("/out", new Map());
  /** @type {Map<string, Uint8Array>} of FS, by the name that the caller uses */
  named = new Map();
  #fs;
  #count = 0;

  /** @param {any} fs Node's file system, or null */
  constructor(fs) {
    this.#fs = fs;
  }

  /**
   * Makes bytes, or a file of FS or of Node's disk, visible to the module.
   * @param {string | Uint8Array} what
   * @returns {string} its path for the module; release it in the end
   */
  mount(what) {
    let node;
    if (typeof what !== "string") node = new File(what, { readonly: true });
    else if (this.named.has(what)) node = new File(/** @type {Uint8Array} */ (this.named.get(what)), { readonly: true });
    else if (this.#fs) node = new DiskFile(this.#fs, what);
    else throw new Error(`${what}: no such file; put it there with FS.writeFile, or use Module.loadAsync, which fetches`);
    const name = `${++this.#count}`;
    this.files.dir.contents.set(name, node);
    return `/files/${name}`;
  }

  /** @param {string} path of mount */
  release(path) {
    const name = path.slice("/files/".length);
    const node = this.files.dir.contents.get(name);
    if (node instanceof DiskFile) node.close();
    this.files.dir.contents.delete(name);
  }

  /** What the module has written to a file of /out, which is removed. @param {string} name @returns {Uint8Array} */
  take(name) {
    const node = this.out.dir.contents.get(name);
    this.out.dir.contents.delete(name);
    if (!(node instanceof File)) throw new Error(`the module has not written ${name}`);
    return node.data;
  }
}

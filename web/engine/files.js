// The files that tabtune.wasm sees here: /files holds what FS.writeFile, Module.load and Module.loadAsync were given, in memory, or in Node files of
// the disk that are read a piece at a time; /out is where the module writes for this API. Nothing else is visible to it.

import { Fd, File, Inode, PreopenDirectory, wasi } from "../worker/wasi/index.js";

/** A file of Node's disk, read-only. */
class DiskFile extends Inode {
  /** @param {any} fs @param {string} path */
  constructor(fs, path) {
    super();
    this.fs = fs;
    this.descriptor = fs.openSync(path, "r");
    const st = fs.fstatSync(this.descriptor);
    if (!st.isFile()) {
      fs.closeSync(this.descriptor);
      throw new Error(`${path} is not a file`);
    }
    this.bytes = st.size;
  }

  stat() {
    return new wasi.Filestat(this.ino, wasi.FILETYPE_REGULAR_FILE, BigInt(this.bytes));
  }

  /** @param {number} oflags @param {bigint} rights */
  path_open(oflags, rights) {
    if ((oflags & wasi.OFLAGS_TRUNC) !== 0 || (rights & BigInt(wasi.RIGHTS_FD_WRITE)) !== 0n) return { ret: wasi.ERRNO_PERM, fd_obj: null };
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: new OpenDiskFile(this) };
  }

  close() {
    this.fs.closeSync(this.descriptor);
  }
}

class OpenDiskFile extends Fd {
  /** @param {DiskFile} file */
  constructor(file) {
    super();
    this.file = file;
    this.position = 0;
  }

  fd_fdstat_get() {
    return { ret: wasi.ERRNO_SUCCESS, fdstat: new wasi.Fdstat(wasi.FILETYPE_REGULAR_FILE, 0) };
  }

  fd_filestat_get() {
    return { ret: wasi.ERRNO_SUCCESS, filestat: this.file.stat() };
  }

  /** @param {number} size @param {bigint} offset */
  fd_pread(size, offset) {
    const at = Number(offset);
    const data = new Uint8Array(Math.max(0, Math.min(size, this.file.bytes - at)));
    const n = data.length > 0 ? this.file.fs.readSync(this.file.descriptor, data, 0, data.length, at) : 0;
    return { ret: wasi.ERRNO_SUCCESS, data: data.subarray(0, n) };
  }

  /** @param {number} size */
  fd_read(size) {
    const r = this.fd_pread(size, BigInt(this.position));
    this.position += r.data.length;
    return r;
  }

  /** @param {bigint} offset @param {number} whence */
  fd_seek(offset, whence) {
    const base = [0, this.position, this.file.bytes][whence];
    if (base === undefined || base + Number(offset) < 0) return { ret: wasi.ERRNO_INVAL, offset: 0n };
    this.position = base + Number(offset);
    return { ret: wasi.ERRNO_SUCCESS, offset: BigInt(this.position) };
  }

  fd_tell() {
    return { ret: wasi.ERRNO_SUCCESS, offset: BigInt(this.position) };
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

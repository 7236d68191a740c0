// Files that the module may read but not change, wherever their bytes lie, with positioned reads (the shim's own class has none).

import { Fd, Inode, wasi } from "./wasi/index.js";

/**
 * Where a file's bytes lie: how many there are, and a read of as many of them as fit, from at on, that returns how many it read.
 * @typedef {{ bytes: number, read: (to: Uint8Array, at: number) => number }} Source
 */

/** A file, read-only. */
export class ReadOnlyFile extends Inode {
  /** @param {Source} source */
  constructor(source) {
    super();
    this.source = source;
    this.bytes = source.bytes;
  }

  stat() {
    return new wasi.Filestat(this.ino, wasi.FILETYPE_REGULAR_FILE, BigInt(this.bytes));
  }

  /** @param {number} oflags @param {bigint} rights */
  path_open(oflags, rights) {
    if ((oflags & wasi.OFLAGS_TRUNC) !== 0 || (rights & BigInt(wasi.RIGHTS_FD_WRITE)) !== 0n) return { ret: wasi.ERRNO_PERM, fd_obj: null };
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: new OpenReadOnlyFile(this) };
  }
}

export class OpenReadOnlyFile extends Fd {
  /** @param {ReadOnlyFile} file */
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
    const left = this.file.bytes - Number(offset);
    const data = new Uint8Array(Math.max(0, Math.min(size, left)));
    const n = data.length > 0 ? this.file.source.read(data, Number(offset)) : 0;
    return { ret: wasi.ERRNO_SUCCESS, data: n === data.length ? data : data.subarray(0, n) };
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

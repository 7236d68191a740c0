// Storage for browsers that give the page none (private windows, blocked site data, builds of WebKit without OPFS): the part of the File System
// standard (https://fs.spec.whatwg.org) that this worker uses, in memory. What is written lasts as long as the worker.

const PIECE = 1 << 20;

/** The bytes of a file, in pieces, so that a model grows without being copied. */
class Bytes {
  /** @type {Uint8Array<ArrayBuffer>[]} each of PIECE bytes */
  pieces = [];
  size = 0;
  modified = Date.now();

  /** Visits the pieces of [at, at+length). @param {number} at @param {number} length @param {(piece: Uint8Array<ArrayBuffer>, done: number) => void} visit */
  #walk(at, length, visit) {
    for (let done = 0; done < length;) {
      const from = (at + done) % PIECE;
      const n = Math.min(PIECE - from, length - done);
      visit(this.pieces[Math.floor((at + done) / PIECE)].subarray(from, from + n), done);
      done += n;
    }
  }

  /** @param {number} size */
  resize(size) {
    if (size < this.size) this.#walk(size, Math.min(this.size, Math.ceil(size / PIECE) * PIECE) - size, (p) => void p.fill(0)); // as if never written
    this.pieces.length = Math.min(this.pieces.length, Math.ceil(size / PIECE));
    while (this.pieces.length * PIECE < size) this.pieces.push(new Uint8Array(PIECE));
    this.size = size;
    this.modified = Date.now();
  }

  /** @param {Uint8Array} data @param {number} at @returns {number} */
  read(data, at) {
    const n = Math.max(0, Math.min(data.length, this.size - at));
    this.#walk(at, n, (p, done) => data.set(p, done));
    return n;
  }

  /** @param {Uint8Array} data @param {number} at @returns {number} */
  write(data, at) {
    if (at + data.length > this.size) this.resize(at + data.length);
    this.#walk(at, data.length, (p, done) => p.set(data.subarray(done, done + p.length)));
    this.modified = Date.now();
    return data.length;
  }
}

/** What getFile answers: a view of a stretch, since a real File would copy a model. */
class View {
  /** @param {Bytes} bytes @param {number} from @param {number} to */
  constructor(bytes, from, to) {
    this.bytes = bytes;
    this.from = from;
    this.size = to - from;
    this.lastModified = bytes.modified;
  }

  /** @param {number} from @param {number} to */
  slice(from, to) {
    return new View(this.bytes, this.from + Math.min(from, this.size), this.from + Math.min(to, this.size));
  }

  async arrayBuffer() {
    const data = new Uint8Array(this.size);
    this.bytes.read(data, this.from);
    return data.buffer;
  }

  async text() {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  /** A File for the page. */
  file() {
    const pieces = [];
    for (let at = 0; at < this.size; at += PIECE) pieces.push(this.bytes.pieces[Math.floor((this.from + at) / PIECE)].subarray(0, Math.min(PIECE, this.size - at)));
    return new File(pieces, "stored", { lastModified: this.lastModified });
  }
}

class MemoryFile {
  kind = "file";
  bytes = new Bytes();

  /** @param {MemoryFolder} parent @param {string} name */
  constructor(parent, name) {
    this.parent = parent;
    this.name = name;
  }

  async getFile() {
    return new View(this.bytes, 0, this.bytes.size);
  }

  /** @param {string} name */
  async move(name) {
    this.parent.inside.delete(this.name);
    this.parent.inside.set(name, this);
    this.name = name;
  }

  async createSyncAccessHandle() {
    const { bytes } = this;
    return {
      getSize: () => bytes.size,
      read: (/** @type {Uint8Array} */ data, { at = 0 } = {}) => bytes.read(data, at),
      write: (/** @type {Uint8Array} */ data, { at = 0 } = {}) => bytes.write(data, at),
      truncate: (/** @type {number} */ size) => bytes.resize(size),
      flush() {},
      close() {},
    };
  }
}

/** A folder. Missing names are refused as a browser does. */
export class MemoryFolder {
  kind = "directory";
  /** @type {Map<string, MemoryFile | MemoryFolder>} */
  inside = new Map();

  /** @template {MemoryFile | MemoryFolder} T @param {string} name @param {boolean} create @param {(v: any) => v is T} is @param {() => T} make @returns {T} */
  #get(name, create, is, make) {
    let found = this.inside.get(name);
    if (!found && create) this.inside.set(name, found = make());
    if (!found) throw new DOMException(`${name} is not there`, "NotFoundError");
    if (!is(found)) throw new DOMException(`${name} is a ${found.kind}`, "TypeMismatchError");
    return found;
  }

  /** @param {string} name @param {{create?: boolean}} [o] */
  async getDirectoryHandle(name, { create = false } = {}) {
    return this.#get(name, create, (v) => v instanceof MemoryFolder, () => new MemoryFolder());
  }

  /** @param {string} name @param {{create?: boolean}} [o] */
  async getFileHandle(name, { create = false } = {}) {
    return this.#get(name, create, (v) => v instanceof MemoryFile, () => new MemoryFile(this, name));
  }

  /** @param {string} name */
  async removeEntry(name) {
    if (!this.inside.delete(name)) throw new DOMException(`${name} is not there`, "NotFoundError");
  }

  async* entries() {
    yield* [...this.inside];
  }
}

// Types of engine.js. What the stock ExecuTorch wasm bindings have too is marked "stock": code that uses nothing else runs on either.

/** A number of an enumeration with its name (stock). */
export interface EnumValue<Name extends string = string> { readonly value: number; readonly name: Name }

/** An element type (stock: Float and Long). */
export type ScalarType = EnumValue<ScalarTypeName>;
export type ScalarTypeName = "Byte" | "Char" | "Short" | "Int" | "Long" | "Half" | "Float" | "Double" | "Bool" | "BFloat16" | "UInt16" | "UInt32" | "UInt64";
export type ScalarTypeEnum = { readonly [N in ScalarTypeName]: ScalarType };
export const ScalarType: ScalarTypeEnum;

/** What a value of a program can be (stock). */
export type Tag = EnumValue<TagName>;
export type TagName = "None" | "Tensor" | "String" | "Double" | "Int" | "Bool" | "ListBool" | "ListDouble" | "ListInt" | "ListTensor" | "ListScalar" | "ListOptionalTensor";
export type TagEnum = { readonly [N in TagName]: Tag };
export const Tag: TagEnum;

/** Half and BFloat16 as their 16 bits, Bool as bytes 0 and 1. */
export type TensorData =
  | Float32Array | BigInt64Array | Float64Array | Int32Array | Int16Array | Int8Array | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

export class Tensor {
  private constructor();
  /** Stock. Float by default. */
  static zeros(sizes: ArrayLike<number>, type?: ScalarType): Tensor;
  /** The same: the stock README's spelling. */
  static zeroes(sizes: ArrayLike<number>, type?: ScalarType): Tensor;
  /** Stock. */
  static ones(sizes: ArrayLike<number>, type?: ScalarType): Tensor;
  /** Stock. Without a type Float for a number, else Long. */
  static full(sizes: ArrayLike<number>, value: number | bigint | boolean, type?: ScalarType): Tensor;
  /**
   * Stock. The first elements of array in the order of memory; without a type Float if they are numbers, else Long. Throws if there are too few, if
   * order or strides do not fit the sizes, or (TypeError) if an element is a number where a BigInt belongs or the other way round.
   */
  static fromArray(sizes: ArrayLike<number>, array: ArrayLike<number | bigint | boolean>, type?: ScalarType, dimOrder?: ArrayLike<number>, strides?: ArrayLike<number>): Tensor;
  /** Stock, for iterators; here for anything iterable. At most 8,388,607 elements (RangeError). */
  static fromIter(sizes: ArrayLike<number>, iter: Iterator<number | bigint | boolean> | Iterable<number | bigint | boolean>, type?: ScalarType, dimOrder?: ArrayLike<number>, strides?: ArrayLike<number>): Tensor;
  /** Stock. The elements themselves, in the order of memory: writing to it changes the tensor. */
  get data(): TensorData;
  /** Stock. */
  get sizes(): number[];
  /** Stock. */
  get scalarType(): ScalarType;
  /** The dimensions from the outermost in memory to the innermost. */
  get dimOrder(): number[];
  /** The elements converted: numbers of Half and BFloat16, booleans of Bool. */
  toArray(): (number | bigint | boolean)[];
  /** Stock. Twice is a BindingError. Without it the collector frees the tensor. */
  delete(): void;
}

/** What an input or output can be: a tensor, a Double, an Int, a Bool, None. Numbers must be those that the program was exported with. */
export type Value = Tensor | number | bigint | boolean | null;

/** Stock. */
export interface TensorInfo {
  sizes: number[];
  dimOrder: number[];
  scalarType: ScalarType;
  isMemoryPlanned: boolean;
  nbytes: number;
  /** The same: the stock README's spelling. */
  nBytes: number;
  /** Fully qualified name of a parameter or buffer, else "". */
  name: string;
  /** Not stock: sizes are upper bounds. */
  isDynamic: boolean;
}

/** Stock. Entries of what is no tensor are undefined. */
export interface MethodMeta {
  name: string;
  inputTags: Tag[];
  inputTensorMeta: (TensorInfo | undefined)[];
  outputTags: Tag[];
  outputTensorMeta: (TensorInfo | undefined)[];
  attributeTensorMeta: TensorInfo[];
  memoryPlannedBufferSizes: number[];
  backends: string[];
  numInstructions: number;
}

/** Stock. A profile in ExecuTorch's own format, for its Inspector. */
export interface ETDumpResult { readonly buffer: Uint8Array; delete(): void }

/** What all calls of one operator in one method took. */
export interface ProfileRow {
  method: string;
  operator: string;
  /** A kernel of kernels.wasm, the engine's reference in Go, or nothing: a view. */
  by: "kernel" | "go" | "view";
  calls: number;
  seconds: number;
  /** Of the seconds of all rows. */
  share: number;
  /** Bytes of the tensors taken and written. */
  read: number;
  written: number;
}

export interface Profile {
  rows: ProfileRow[];
  /** Chrome trace events, JSON: chrome://tracing and Perfetto open it. */
  trace: string;
  /** Steps that were too many for the trace. */
  dropped: number;
  table(): string;
}

export interface Progress { phase: "engine" | "program" | "data"; done: number; /** 0: not known */ total: number }

export interface LoadOptions {
  /** External tensors, .ptd. */
  data?: ProgramSource | ProgramSource[];
  /** Methods to load at once, so that what is missing is said now. */
  methods?: string[];
  onProgress?: (p: Progress) => void;
  signal?: AbortSignal;
}

/** A name in FS, a path (Node), a URL (in a browser text that is no name in FS is one), or the bytes. */
export type ProgramSource = string | URL | Blob | Uint8Array | ArrayBuffer;

export interface Module {
  /** Stock. */
  getMethods(): string[];
  /** Stock. Throws if an operator is missing, naming all that are. */
  loadMethod(method: string): void;
  /** Stock. */
  getMethodMeta(method: string): MethodMeta;
  /** The same: the stock README's spelling. */
  getMethodMetadata(method: string): MethodMeta;
  /** Stock. Mutable buffers keep their values from call to call. */
  execute(method: string, inputs: Value | Value[]): any[];
  /** Stock. execute("forward", inputs). */
  forward(inputs: Value | Value[]): any[];
  /** Begins to record every operator; what was recorded before is gone. */
  startProfile(): void;
  stopProfile(): void;
  /** What was recorded so far. */
  profile(): Profile;
  /** Stock, in builds with an event tracer: what was recorded so far. Throws before startProfile, as builds without one do. */
  etdump(): ETDumpResult;
  /** Stock. Frees the program's memory. */
  delete(): void;
}

export interface ModuleClass {
  /**
   * Stock. A name in FS, a path (Node) or the bytes. The file is looked at when a method is first asked for, as in the stock runtime.
   * external: .ptd files (not stock).
   */
  load(data: string | Uint8Array | ArrayBuffer, external?: string | Uint8Array | ArrayBuffer | (string | Uint8Array | ArrayBuffer)[]): Module;
  /** Fetches and opens a program; what is wrong with the file is an error here. */
  loadAsync(source: ProgramSource, options?: LoadOptions): Promise<Module>;
}

export interface OpenOptions {
  /** Default: one a processor. 1 where memory cannot be shared, and in a page's main thread, which may not wait: run engine.js in a worker there. */
  threads?: number;
  /** Most bytes of tensors, default 4 GiB. A smaller amount is taken where the browser refuses so many. */
  memoryLimit?: number;
  /** Where tabtune.wasm and the kernels are; default: the folder above engine.js. */
  base?: string | URL;
  onProgress?: (p: Progress) => void;
  signal?: AbortSignal;
}

export interface ExecuTorch {
  readonly Module: ModuleClass;
  readonly Tensor: typeof Tensor;
  readonly ScalarType: ScalarTypeEnum;
  readonly Tag: TagEnum;
  /** Files by name, for Module.load. Three functions of Emscripten's FS. */
  readonly FS: {
    writeFile(name: string, data: string | ArrayLike<number> | ArrayBuffer): void;
    readFile(name: string): Uint8Array;
    unlink(name: string): void;
  };
  readonly threads: number;
  /** Bytes: of the kernels' memory and the module's as they are now, and the most that tensors may take. */
  memory(): { device: number; module: number; limit: number };
  /** Ends the threads and frees everything. */
  close(): void;
}

/** Starts the engine. It may be called again for a second one, with memory of its own. */
export function open(options?: OpenOptions): Promise<ExecuTorch>;

/** Misuse of an object, such as one that was deleted. */
export class BindingError extends Error {}
/** An error of the engine; code says which, as words. The errors of Module have it as their cause, and a number of the stock runtime as code. */
export class EngineError extends Error { readonly code: string }

// Types of the messages between a page and the worker, and of the objects the modules here share. Checked by `npm run check`.

/** One request. `id` is the page's own and comes back with every answer. */
export interface Request { id: number; method: string; params?: Record<string, any> }

/** Answers: any number of events, then exactly one result or error. */
export type Response =
  | { id: number; event: any }
  | { id: number; result: any }
  | { id: number; error: Failure };

/** An error as the page sees it: a code to act on and a sentence to show. */
export interface Failure { code: string; message: string; detail?: string }

export type Emit = (event: any) => void;

/** What the exports of kernels.wasm must have besides the kernels. */
export interface KernelExports extends WebAssembly.Exports {
  memory?: WebAssembly.Memory;
  worker_main?: (tid: number) => void;
  worker_stack?: (tid: number) => number;
  threads_set?: (n: number) => void;
  gemm_tile?: (splats: number) => void;
  __stack_pointer: WebAssembly.Global;
}

/** What tabtune.wasm exports. */
export interface ReactorExports extends WebAssembly.Exports {
  memory: WebAssembly.Memory;
  _initialize: () => void;
  tt_alloc: (n: number) => number;
  tt_free: (p: number) => void;
  tt_call: (ptr: number, len: number) => bigint;
}

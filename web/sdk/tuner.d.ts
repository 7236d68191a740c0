/** Fine-tuning in a Web Worker of the page's own origin, without a server. */

export class TunerError extends Error {
  /** To act on: crashed, out_of_memory, quota, network, not_found, locked, invalid_params, data, closed, ... */
  code: string;
  detail?: string;
}

export interface Progress { type: "progress"; phase: string; done: number; total: number }
export interface StepEvent { type: "step"; step: number; steps: number; loss: number; lr: number; rows: number; rowsPerSecond: number; secondsLeft: number; peakBytes: number }
export interface EvalEvent { type: "eval"; step: number; accuracy: number; loss: number; best: boolean; /** Of the average of the iterates, beside the step's own. */ averaged?: boolean }
export interface RateEvent { type: "lr"; lr: number }
export interface TokenEvent { type: "token"; text: string; id: number; p: number }
export type TrainEvent = StepEvent | EvalEvent | RateEvent | Progress | { type: "paused" | "resumed" | "prefix" };

export interface Score { accuracy: number; loss: number; step?: number }
export interface TrainResult { stopped?: boolean; steps: number; rows: number; seconds: number; lr: number; accuracy: number; loss: number; zeroShot: Score; best: Score }
export interface EvalResult { stopped?: boolean; accuracy: number; loss: number; rows: number; predictions: { row: number; text: string; label: number; predicted: number; loss: number }[] }
export interface GenerateResult { stopped?: boolean; text: string; tokens: number; seconds: number }
export interface Hello { version: string; threads: number; shared: boolean; memory: { device: number; module: number; limit: number; threads: number } }
export interface Model { name: string; architecture: string; parameters: number; layers: number; fileBytes: number; weightBytes: number; sha256: string;
  /** As the file says; missing where it says nothing. */ license?: string; /** "Q4_1, Q8_0" */ quantization?: string }
export interface Data { trainRows: number; valRows: number; labels: { name: string; verbalizer: string; count: number }[]; warnings: { code: string; message: string; rows: number[] }[] }

/** Work under way. Iterating gives its events; leaving the loop stops it. A stopped task's result has `stopped: true`. */
export interface Task<Event, Result> extends AsyncIterable<Event> {
  readonly result: Promise<Result>;
  pause(): void;
  resume(): void;
  stop(): void;
}

export interface TrainOptions {
  /** Names the run's folder in the browser's storage; its log is there, and `resume` goes on from it. */
  run?: string;
  resume?: boolean;
  steps?: number;
  queries?: number;
  batch?: number;
  eps?: number | "auto";
  lr?: number | "auto";
  layers?: number | "all" | "auto";
  modules?: ["auto"] | ("q" | "k" | "v" | "o" | "gate" | "up" | "down")[];
  rank?: number;
  alpha?: number;
  evalEvery?: number;
  /** Score an average of the adapters too and keep it if it is better: "tail", or a decay such as "0.95". */
  average?: string;
  /** Where the adapters' A come from: the seed (default), what the adapted layers read, or what tells labels apart in it ("auto": where rows have labels). */
  subspace?: "random" | "activations" | "labels" | "auto";
  /** Go on in another random subspace every so many steps. */
  resample?: number;
  /** With the estimator "auto": fit the label head again every so many steps. */
  refit?: number;
  seed?: number;
  estimator?: string;
  schedule?: "linear" | "constant";
  signal?: AbortSignal;
}

export interface DataOptions {
  rows?: Record<string, unknown>[];
  text?: string;
  format?: "csv" | "tsv" | "jsonl";
  name?: string;
  /** Rows to hold out; a fifth if not given. */
  val?: number;
  kind?: "labels" | "choice" | "completion";
  textColumn?: string;
  labelColumn?: string;
  promptColumn?: string;
  completionColumn?: string;
  template?: string;
  verbalizers?: string[];
  labels?: string[];
  window?: number;
  trainRows?: number;
}

export interface ModelOptions {
  file?: File;
  /** Of the page's own origin. */
  url?: string;
  /** Of the stored file; of the file or the address if not given. */
  name?: string;
  sha256?: string;
  bytes?: number;
  dtype?: "int8" | "q4" | "f32";
  signal?: AbortSignal;
  onProgress?: (p: Progress) => void;
}

/** Events of all tasks are dispatched on it too, as CustomEvents named by their type; "error" when the engine is lost. */
export interface Tuner extends EventTarget {
  readonly hello: Hello;
  openModel(o: ModelOptions): Promise<Model>;
  openData(o: DataOptions): Promise<Data>;
  train(o?: TrainOptions): Task<TrainEvent, TrainResult> & { readonly run: string };
  evaluate(o?: { signal?: AbortSignal }): Task<Progress, EvalResult>;
  generate(prompt: string, o?: { maxTokens?: number; temperature?: number; seed?: number; chat?: boolean; adapter?: boolean; signal?: AbortSignal }): Task<TokenEvent, GenerateResult>;
  exportRun(run: string, format?: "gguf-adapter" | "gguf-q8_0" | "gguf-f16" | "card"): Promise<File>;
  /** Any method of the protocol (worker/worker.js). */
  call(method: string, params?: object, onEvent?: (event: any) => void): Promise<any>;
  task<Event = any, Result = any>(method: string, params?: object, o?: { signal?: AbortSignal }): Task<Event, Result>;
  close(): void;
}

export function createTuner(o?: { base?: URL | string; threads?: number; memoryLimit?: number; signal?: AbortSignal }): Promise<Tuner>;

// Tensors of the JavaScript API. Their elements are in JavaScript's memory; a call copies them to the kernels' and back.

import { ScalarType, arrayOf, fromBfloat, fromHalf, store } from "./types.js";

/** Misuse of an object of this API, such as one that was deleted. The stock runtime's bindings throw an error of this name. */
export class BindingError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "BindingError";
  }
}

const MAX_DIMS = 16; // kTensorDimensionLimit of the stock runtime
const MAX_ITERATED = 8 * 1024 * 1024;

/** @param {ArrayLike<number>} sizes @returns {{sizes: number[], numel: number}} */
function shape(sizes) {
  if (sizes === null || sizes === undefined || typeof sizes.length !== "number") throw new TypeError("sizes must be an array");
  const list = [...new Int32Array(sizes)];
  let numel = 1;
  for (const n of list) numel *= n;
  if (list.some((n) => n < 0) || list.length > MAX_DIMS || !(numel <= 0x7fffffff)) throw new Error("Invalid tensor sizes: numel computation failed");
  return { sizes: list, numel };
}

/**
 * Checks a dimension order and strides against each other, and fills in what is absent.
 * @param {number[]} sizes @param {ArrayLike<number>} dimOrder @param {ArrayLike<number>} strides
 * @returns {number[]} the dimension order, outermost first
 */
function layout(sizes, dimOrder, strides) {
  let order = [...new Uint8Array(dimOrder)];
  const given = [...new Int32Array(strides)];
  if (order.length !== 0 && order.length !== sizes.length) throw new Error("dim_order size must match sizes or be empty.");
  if (given.length !== 0 && given.length !== sizes.length) throw new Error("strides size must match sizes or be empty.");
  if (order.length === 0) {
    order = sizes.map((_, i) => i);
    if (given.length > 0) order.sort((a, b) => given[b] - given[a] || a - b);
  }
  if ([...order].sort((a, b) => a - b).some((d, i) => d !== i)) throw new Error("Failed to compute strides.");
  const computed = new Array(sizes.length).fill(0);
  let step = 1;
  for (let i = order.length - 1; i >= 0; i--) {
    computed[order[i]] = step;
    step *= Math.max(sizes[order[i]], 1);
  }
  given.forEach((s, i) => {
    if (s !== computed[i] && sizes[i] !== 1) throw new Error(`invalid strides for dim ${i}: ${s}!= ${computed[i]} while its size is ${sizes[i]} != 1`);
  });
  return order;
}

export class Tensor {
  /** @type {any} */ #data;
  #sizes;
  #type;
  #order;
  #deleted = false;

  /**
   * Not for callers: Tensor.fromArray and the others make tensors.
   * @param {number[]} sizes @param {any} data @param {import("./types.js").ScalarTypeValue} type @param {number[]} [order]
   */
  constructor(sizes, data, type, order) {
    this.#sizes = sizes;
    this.#data = data;
    this.#type = type;
    this.#order = order ?? sizes.map((_, i) => i);
  }

  /** @param {ArrayLike<number>} sizes @param {any} [type] */
  static zeros(sizes, type = ScalarType.Float) {
    const s = shape(sizes);
    return new Tensor(s.sizes, new (arrayOf(type))(s.numel), type);
  }

  /** @param {ArrayLike<number>} sizes @param {any} [type] */
  static zeroes(sizes, type = ScalarType.Float) {
    return Tensor.zeros(sizes, type);
  }

  /** @param {ArrayLike<number>} sizes @param {any} [type] */
  static ones(sizes, type = ScalarType.Float) {
    return Tensor.full(sizes, 1, type);
  }

  /** @param {ArrayLike<number>} sizes @param {number | bigint | boolean} value @param {any} [type] Float for a number, else Long */
  static full(sizes, value, type = typeof value === "number" ? ScalarType.Float : ScalarType.Long) {
    const s = shape(sizes);
    const data = new (arrayOf(type))(s.numel);
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
      if (typeof value !== "bigint" && typeof value !== "number") throw new TypeError(`Cannot convert "${value}" to a 64-bit integer`);
      data.fill(BigInt(value));
    } else {
      if (typeof value === "bigint") throw new TypeError(`Cannot convert "${value}" to a number`);
      const one = new (arrayOf(type))(1);
      store(one, [value], type);
      data.fill(one[0]);
    }
    return new Tensor(s.sizes, data, type);
  }

  /**
   * @param {ArrayLike<number>} sizes @param {ArrayLike<any>} array at least as many elements as sizes say, in the order of memory
   * @param {any} [type] Float if the first element is a number or there is none, else Long
   * @param {ArrayLike<number>} [dimOrder] @param {ArrayLike<number>} [strides]
   */
  static fromArray(sizes, array, type = undefined, dimOrder = [], strides = []) {
    type ??= array.length === 0 || typeof array[0] === "number" ? ScalarType.Float : ScalarType.Long;
    const make = arrayOf(type);
    const s = shape(sizes);
    const order = layout(s.sizes, dimOrder, strides);
    if (!(array.length >= s.numel)) throw new Error(`Required ${s.numel} elements, given ${array.length}`);
    const data = new make(s.numel);
    // A typed array of the same type has the bits already, those of Half and BFloat16 among them.
    if (array instanceof make && type !== ScalarType.Bool) data.set(/** @type {any} */ (array).subarray(0, s.numel));
    else store(data, array, type);
    return new Tensor(s.sizes, data, type, order);
  }

  /**
   * @param {ArrayLike<number>} sizes @param {Iterator<any> | Iterable<any>} iter
   * @param {any} [type] @param {ArrayLike<number>} [dimOrder] @param {ArrayLike<number>} [strides]
   */
  static fromIter(sizes, iter, type = ScalarType.Float, dimOrder = [], strides = []) {
    arrayOf(type);
    layout(shape(sizes).sizes, dimOrder, strides);
    const from = /** @type {any} */ (iter);
    const it = typeof from?.next === "function" ? from : from[Symbol.iterator]();
    const values = [];
    for (let r = it.next(); !r.done; r = it.next()) {
      values.push(r.value);
      if (values.length >= MAX_ITERATED) throw new RangeError(`Generator exceeded maximum element count of ${MAX_ITERATED}`);
    }
    return Tensor.fromArray(sizes, values, type, dimOrder, strides);
  }

  #alive() {
    if (this.#deleted) throw new BindingError("Cannot use deleted object of type Tensor");
  }

  /** The elements in the order of memory. */
  get data() {
    this.#alive();
    return this.#data;
  }

  get sizes() {
    this.#alive();
    return [...this.#sizes];
  }

  get scalarType() {
    this.#alive();
    return this.#type;
  }

  /** The dimensions from the outermost in memory to the innermost. */
  get dimOrder() {
    this.#alive();
    return [...this.#order];
  }

  /** The elements as an array of numbers, BigInts or booleans, Half and BFloat16 converted. */
  toArray() {
    switch (this.scalarType) {
      case ScalarType.Half: return Array.from(this.data, fromHalf);
      case ScalarType.BFloat16: return Array.from(this.data, fromBfloat);
      case ScalarType.Bool: return Array.from(this.data, (x) => x !== 0);
    }
    return Array.from(this.data);
  }

  delete() {
    if (this.#deleted) throw new BindingError("Tensor instance already deleted");
    this.#deleted = true;
    this.#data = null;
  }
}

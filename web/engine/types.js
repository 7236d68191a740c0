// Element types and tags, as ExecuTorch numbers them (runtime/core: scalar_type.h, tag.h), and how elements lie in JavaScript's typed arrays.

/** One value of an enumeration: its number and its name. */
class EnumValue {
  /** @param {number} value @param {string} name */
  constructor(value, name) {
    this.value = value;
    this.name = name;
    Object.freeze(this);
  }

  toString() {
    return this.name;
  }
}

export class ScalarTypeValue extends EnumValue {}
export class TagValue extends EnumValue {}

/**
 * The element types. Half, BFloat16 and Bool have no typed array of their own: the first two are kept as their 16 bits, Bool as bytes 0 and 1.
 */
export const ScalarType = Object.freeze({
  Byte: new ScalarTypeValue(0, "Byte"),
  Char: new ScalarTypeValue(1, "Char"),
  Short: new ScalarTypeValue(2, "Short"),
  Int: new ScalarTypeValue(3, "Int"),
  Long: new ScalarTypeValue(4, "Long"),
  Half: new ScalarTypeValue(5, "Half"),
  Float: new ScalarTypeValue(6, "Float"),
  Double: new ScalarTypeValue(7, "Double"),
  Bool: new ScalarTypeValue(11, "Bool"),
  BFloat16: new ScalarTypeValue(15, "BFloat16"),
  UInt16: new ScalarTypeValue(27, "UInt16"),
  UInt32: new ScalarTypeValue(28, "UInt32"),
  UInt64: new ScalarTypeValue(29, "UInt64"),
});

const tags = ["None", "Tensor", "String", "Double", "Int", "Bool", "ListBool", "ListDouble", "ListInt", "ListTensor", "ListScalar", "ListOptionalTensor"];

/** What a value of a program can be. */
export const Tag = /** @type {import("./engine.js").TagEnum} */ (Object.freeze(Object.fromEntries(tags.map((name, i) => [name, new TagValue(i, name)]))));

const byValue = new Map(Object.values(ScalarType).map((t) => [t.value, t]));

/** @param {number} value @returns {ScalarTypeValue} */
export function scalarType(value) {
  const t = byValue.get(value);
  if (!t) throw new TypeError(`Unsupported Tensor type: ${value}`);
  return t;
}

/** @type {Map<ScalarTypeValue, any>} */
const arrays = new Map(/** @type {[ScalarTypeValue, any][]} */ ([
  [ScalarType.Byte, Uint8Array], [ScalarType.Char, Int8Array], [ScalarType.Short, Int16Array], [ScalarType.Int, Int32Array],
  [ScalarType.Long, BigInt64Array], [ScalarType.Half, Uint16Array], [ScalarType.Float, Float32Array], [ScalarType.Double, Float64Array],
  [ScalarType.Bool, Uint8Array], [ScalarType.BFloat16, Uint16Array], [ScalarType.UInt16, Uint16Array], [ScalarType.UInt32, Uint32Array],
  [ScalarType.UInt64, BigUint64Array],
]));

/** The typed array of an element type. @param {any} type @returns {any} */
export function arrayOf(type) {
  const a = arrays.get(type);
  if (!a) throw new TypeError(`Unsupported Tensor type: ${type?.value ?? type}`);
  return a;
}

/**
 * Writes values to data, which arrayOf(type) made, converted as typed arrays do: a number where a BigInt belongs, or the other way round, is a TypeError.
 * @param {any} data @param {ArrayLike<any>} values @param {ScalarTypeValue} type
 */
export function store(data, values, type) {
  if (type === ScalarType.Bool) for (let i = 0; i < data.length; i++) data[i] = values[i] ? 1 : 0;
  else if (type === ScalarType.Half) for (let i = 0; i < data.length; i++) data[i] = halfBits(values[i]);
  else if (type === ScalarType.BFloat16) for (let i = 0; i < data.length; i++) data[i] = bfloatBits(values[i]);
  else for (let i = 0; i < data.length; i++) data[i] = values[i];
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** The bits of a float as bfloat16: the upper half of float32, rounded to even. @param {number} x */
export function bfloatBits(x) {
  f32[0] = x;
  const b = u32[0];
  if (Number.isNaN(f32[0])) return 0x7fc0;
  return ((b + 0x7fff + ((b >>> 16) & 1)) >>> 16) & 0xffff;
}

/** @param {number} bits */
export function fromBfloat(bits) {
  u32[0] = bits << 16;
  return f32[0];
}

/** The bits of a float as IEEE half, rounded to even from the float64 that a number is. @param {number} x */
export function halfBits(x) {
  const v = +x;
  if (Number.isNaN(v)) return 0x7e00;
  const sign = v < 0 || Object.is(v, -0) ? 0x8000 : 0;
  const a = Math.abs(v);
  if (a >= 65520) return sign | 0x7c00;
  // The spacing of halves around a; below 2^-14 it no longer shrinks.
  const exponent = Math.max(-14, Math.floor(Math.log2(a || Number.MIN_VALUE)));
  let e = exponent;
  while (e > -14 && 2 ** e > a) e--; // log2 may round up to the next power
  const steps = roundEven(a / 2 ** (e - 10)); // exact: a power of two
  return sign | (((e + 14) << 10) + steps);
}

/** @param {number} x at least 0 */
function roundEven(x) {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

/** @param {number} bits */
export function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const e = (bits >> 10) & 31;
  const m = bits & 1023;
  if (e === 31) return m ? NaN : sign * Infinity;
  return sign * (e === 0 ? m * 2 ** -24 : (1024 + m) * 2 ** (e - 25));
}

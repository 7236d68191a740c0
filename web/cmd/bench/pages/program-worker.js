import { open, Tensor, ScalarType } from "/engine/engine.js";

let program, inputs;

function tensor({ type, sizes, values }) {
  const n = sizes.reduce((a, b) => a * b, 1);
  if (type === "i64") return Tensor.fromArray(sizes, BigInt64Array.from(values, BigInt), ScalarType.Long);
  return Tensor.fromArray(sizes, values ?? Float32Array.from({ length: n }, (_, i) => Math.sin(i)), ScalarType.Float);
}

/** Runs once and frees the outputs. */
const run = () => program.forward(inputs).forEach((t) => t.delete());

onmessage = async ({ data }) => {
  try {
    let result;
    if (data.open) {
      const et = await open({ threads: data.open.threads });
      program = await et.Module.loadAsync(new URL(data.open.url, location.origin));
      inputs = data.open.inputs.map(tensor);
      run();
      result = { threads: et.threads };
    } else if (data.profile) {
      program.startProfile();
      run();
      result = { table: program.profile().table() };
      program.stopProfile();
    } else {
      result = { ms: [] };
      const end = performance.now() + 1000 * data.seconds;
      do {
        const began = performance.now();
        run();
        result.ms.push(performance.now() - began);
      } while (performance.now() < end);
    }
    postMessage({ result });
  } catch (e) {
    postMessage({ error: String(e.stack ?? e) });
  }
};

// Is only type-checked: the API as its types say it is used.

import { open, Tensor, ScalarType, type ExecuTorch, type MethodMeta, type Module, type Profile, type TensorInfo } from "../engine.js";

export async function classify(url: string, signal: AbortSignal): Promise<number> {
  const et: ExecuTorch = await open({ threads: 2, onProgress: ({ phase, done, total }) => console.log(phase, done, total), signal });
  const module: Module = await et.Module.loadAsync(url, { data: [new Uint8Array(0)], methods: ["forward"], signal });
  const meta: MethodMeta = module.getMethodMeta("forward");
  const info: TensorInfo | undefined = meta.inputTensorMeta[0];
  const x: Tensor = Tensor.zeros(info?.sizes ?? [1], ScalarType.Float);
  module.startProfile();
  const [y] = module.forward([x, 1, 2n, true, null]);
  const profile: Profile = module.profile();
  console.log(profile.table(), module.etdump().buffer.length, et.Tensor.fromIter([1], [1n], ScalarType.Long).toArray());
  // @ts-expect-error a string is no input
  module.forward("x");
  module.delete();
  et.close();
  return y.data[0];
}

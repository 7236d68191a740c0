// Compiled, not run: the types as an embedding page uses them.
import { createTuner, TunerError, type TrainResult } from "../tuner.js";

export async function use(file: File): Promise<TrainResult> {
  const abort = new AbortController();
  const tuner = await createTuner({ threads: 2, signal: abort.signal });
  try {
    await tuner.openModel({ file, onProgress: (p) => p.done / p.total });
    await tuner.openData({ rows: [{ text: "good", label: "yes" }], verbalizers: ["yes", "no"], template: "{text} {label}" });
    const run = tuner.train({ steps: 10, lr: "auto", modules: ["q", "v"], signal: abort.signal });
    for await (const e of run) if (e.type === "step") run.pause();
    let text = "";
    for await (const t of tuner.generate("a", { maxTokens: 4 })) text += t.text;
    const out: File = await tuner.exportRun(run.run, "card");
    // @ts-expect-error no such format
    await tuner.exportRun(run.run, "zip");
    return { ...(await run.result), steps: out.size };
  } catch (e) {
    if (e instanceof TunerError) e.code.length;
    throw e;
  } finally {
    tuner.close();
  }
}

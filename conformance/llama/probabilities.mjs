// REQUEST ANSWER: reads {model, lora, prompts, words} from a JSON file and writes to another, for each prompt, the probability that llama.cpp gives each word's only token as the next one.
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const { model: modelPath, lora, prompts, words } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", progressLogs: false });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 512, threads: 1, ...(lora ? { lora: { adapters: [{ filePath: lora, scale: 1 }] } } : {}) });
const sequence = context.getSequence();
const tokens = words.map((w) => {
  const ids = model.tokenize(w);
  if (ids.length !== 1) throw new Error(`${JSON.stringify(w)} is ${ids.length} tokens`);
  return ids[0];
});
const out = [];
for (const prompt of prompts) {
  await sequence.clearHistory();
  const ids = model.tokenize(prompt);
  if (model.tokens.shouldPrependBosToken && model.tokens.bos !== null) ids.unshift(model.tokens.bos);
  const next = { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } };
  const { probabilities } = (await sequence.controlledEvaluate([...ids.slice(0, -1), [ids.at(-1), next]])).at(-1).next;
  out.push(tokens.map((t) => {
    const p = probabilities.get(t);
    if (p === undefined) throw new Error(`no probability for token ${t} among ${probabilities.size}`);
    return p;
  }));
}
writeFileSync(process.argv[3], JSON.stringify(out));
process.exit(0);

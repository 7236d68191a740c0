// REQUEST ANSWER: reads {model, texts} from a JSON file and writes to another the token ids that llama.cpp makes of each text, special tokens included.
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const { model: modelPath, texts } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", progressLogs: false });
const model = await llama.loadModel({ modelPath, vocabOnly: true });
writeFileSync(process.argv[3], JSON.stringify(texts.map((t) => Array.from(model.tokenize(t, true)))));
process.exit(0);

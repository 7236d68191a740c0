// Fine-tunes on text typed into the page. Everything happens in this tab.
import { createTuner } from "../tuner.js";

const $ = (id) => document.getElementById(id);
const say = (text) => { $("status").textContent = text; };
let tuner = null;
let abort = null;

$("train").onclick = async () => {
  const file = $("model").files[0];
  const rows = $("examples").value.split("\n").filter((l) => /^[+-] ./.test(l)).map((l) => ({ text: l.slice(2), label: l[0] === "+" ? "good" : "bad" }));
  if (!file || rows.length < 4) return say("Choose a model and type at least four examples.");
  abort = new AbortController();
  try {
    tuner ??= await createTuner();
    await tuner.openModel({ file, signal: abort.signal, onProgress: (p) => say(`Loading: ${Math.round((100 * p.done) / p.total)} %`) });
    await tuner.openData({ rows, labels: ["bad", "good"], verbalizers: ["terrible", "great"], template: "{text}. It was {label}", val: 2, window: 64 });
    const run = tuner.train({ steps: 30, queries: 4, batch: 4, evalEvery: 10, signal: abort.signal });
    for await (const e of run) if (e.type === "step") say(`Step ${e.step} of ${e.steps}, loss ${e.loss.toFixed(3)}`);
    const { stopped, best } = await run.result;
    say(stopped ? "Stopped." : `Done: ${Math.round(100 * best.accuracy)} % of the held-out examples are right.`);
  } catch (e) {
    say(e.message);
  }
};

$("stop").onclick = () => abort?.abort();

$("ask").onclick = async () => {
  $("answer").textContent = "";
  if (!tuner) return say("Train first.");
  for await (const { text } of tuner.generate($("prompt").value, { maxTokens: 8 })) $("answer").textContent += text;
};

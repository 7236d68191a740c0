// A program in engine.js, in a worker, which may wait for the threads of the kernels.

let worker;

/** @param {any} message @returns {Promise<any>} */
function ask(message) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.result));
    worker.onerror = (e) => reject(new Error(e.message));
    worker.postMessage(message);
  });
}

/** Loads a program at an address of this origin. inputs: see program.py. */
export function open(params) {
  worker = new Worker("./program-worker.js", { type: "module" });
  return ask({ open: params });
}

/** Runs for about so many seconds; the milliseconds of each run. */
export const turn = ({ seconds }) => ask({ seconds });

/** The table of what operators took in one run. */
export const profile = () => ask({ profile: true });

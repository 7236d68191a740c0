// One side of a comparison in a tab: ?side=tabtune|ort|wllama|program. It defines open(params) and turn(params), which the driver awaits.

const side = new URLSearchParams(location.search).get("side");
if (!["tabtune", "ort", "wllama", "program"].includes(side)) throw new Error(`no side ${side}`);
window.bench = await import(`./${side}.js`);

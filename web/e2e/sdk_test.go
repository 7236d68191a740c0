package e2e

import (
	"strings"
	"testing"
	"time"

	"tabtune/web/drive"
	"tabtune/web/internal/site"
)

// TestSDK uses the example page as a person would, and then the package's interface: events, abort signals, iterators, errors.
func TestSDK(t *testing.T) {
	b, ctx := open(t, time.Minute, drive.Options{})
	url := serve(t, &site.Site{Dist: fakeDist, Assets: fakeAssets, Isolated: true})
	must(t, b.Goto(url+"sdk/example/index.html"))
	must(t, b.Pick("#model", tinyModel(t)))
	shows := func(id, want string) {
		t.Helper()
		var got string
		if err := wait(ctx, func() bool {
			_ = b.Eval(`document.getElementById("`+id+`").textContent`, &got)
			return strings.HasPrefix(got, want)
		}); err != nil {
			t.Fatalf("%s: %q, want %q", id, got, want)
		}
	}
	must(t, b.Click("train"))
	shows("status", "Step ")
	shows("status", "Done: 72 % of the held-out examples are right.")
	must(t, b.Click("ask"))
	shows("answer", " after after after")
	script := `(async () => {
	  const { createTuner, TunerError } = await import("../tuner.js");
	  const out = [];
	  const tuner = await createTuner({ threads: 1 });
	  await tuner.openModel({ name: "tiny-model.gguf" });
	  await tuner.openData({ text: "text,label\na,b\n", val: 1, template: "{text} {label}" });
	  let heard = 0;
	  tuner.addEventListener("step", () => heard++);
	  const run = tuner.train({ run: "sdk", steps: 6, evalEvery: 2, lr: 1 });
	  let read = 0;
	  for await (const e of run) if (e.type === "step") read++;
	  out.push(heard, read, (await run.result).steps);
	  out.push((await tuner.exportRun("sdk")).size);
	  const abort = new AbortController();
	  const long = tuner.train({ run: "long", steps: 5000, evalEvery: 1000, lr: 1, signal: abort.signal });
	  for await (const e of long) if (e.step === 3) abort.abort();
	  out.push((await long.result).stopped);
	  const left = tuner.train({ run: "left", steps: 5000, evalEvery: 1000, lr: 1 });
	  for await (const e of left) if (e.step === 2) break;
	  out.push((await left.result).stopped);
	  const more = tuner.train({ run: "long", resume: true, steps: 12, evalEvery: 20, lr: 1 });
	  const steps = [];
	  for await (const e of more) if (e.type === "step") steps.push(e.step);
	  out.push(steps.at(-1), steps[0] > 3);
	  const code = (e) => (e instanceof TunerError ? e.code : String(e));
	  await tuner.openModel({ name: "none.gguf" }).catch((e) => out.push(code(e)));
	  await tuner.openModel({ name: "tiny-model.gguf", signal: AbortSignal.abort() }).catch((e) => out.push(e.name));
	  let lost = "";
	  tuner.addEventListener("error", (e) => { lost = e.detail.code; });
	  await tuner.call("trap").catch((e) => out.push(code(e)));
	  await tuner.call("hello").catch((e) => out.push(code(e), lost));
	  const other = await createTuner({ threads: 1 });
	  const waiting = other.train({ steps: 100 }).result.catch(code);
	  other.close();
	  out.push(await waiting);
	  return out.join(" ");
	})()`
	var got string
	must(t, b.Eval(script, &got))
	if want := "6 6 6 200000 true true 12 true not_found AbortError crashed crashed crashed closed"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, line := range b.Console() {
		if !strings.Contains(line, "favicon") {
			t.Errorf("console: %s", line)
		}
	}
	must(t, b.CloseAndCheck(url))
}

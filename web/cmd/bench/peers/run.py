"""run.py torch|xnnpack|portable THREADS FOLDER GGUF: for each line of input, a number of seconds, runs the trunk for about so long and
prints the milliseconds of each run as a JSON list."""

import json
import os
import sys
import time

side, threads, folder, gguf = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
# ExecuTorch's pool has one thread for each processor that it finds; a process bound to fewer finds fewer.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

import torch  # noqa: E402

import trunk  # noqa: E402

torch.set_num_threads(threads)
torch.set_grad_enabled(False)
ids = trunk.ids()
if side == "torch":
    model = trunk.trunk(gguf)
    run = lambda: model(ids)
else:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(f"{folder}/trunk-{side}.pte")
    method = program.load_method("forward")
    run = lambda: method.execute([ids])
run()
print("ready", flush=True)
for line in sys.stdin:
    end, ms = time.perf_counter() + float(line), []
    while not ms or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        ms.append(1000 * (time.perf_counter() - began))
    print(json.dumps(ms), flush=True)

"""program.py THREADS PROGRAM INPUTS: for each line of input, a number of seconds, runs a program in the stock ExecuTorch runtime for about so long
and prints the milliseconds of each run as a JSON list. INPUTS is JSON, a list of {"type": "f32" | "i64", "sizes", "values"?}; numbers that
are not given are sin(0), sin(1), ..."""

import json
import os
import sys
import time

threads, path, inputs = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
# ExecuTorch's pool has one thread for each processor that it finds; a process bound to fewer finds fewer.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

import torch  # noqa: E402
from executorch.runtime import Runtime  # noqa: E402

import executorch.kernels.quantized  # noqa: E402, F401 registers operators
from executorch.extension.llm.custom_ops import custom_ops  # noqa: E402, F401

torch.set_num_threads(threads)


def tensor(x):
    if "values" in x:
        return torch.tensor(x["values"], dtype=torch.int64 if x["type"] == "i64" else torch.float32).view(x["sizes"])
    n = 1
    for s in x["sizes"]:
        n *= s
    return torch.arange(n, dtype=torch.float32).sin().view(x["sizes"])


method = Runtime.get().load_program(path).load_method("forward")
args = [tensor(x) for x in inputs]
run = lambda: method.execute(args)  # noqa: E731
run()
print("ready", flush=True)
for line in sys.stdin:
    end, ms = time.perf_counter() + float(line), []
    while not ms or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        ms.append(1000 * (time.perf_counter() - began))
    print(json.dumps(ms), flush=True)

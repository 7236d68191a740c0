"""ExecuTorch's own backend test suite: every case that the stock exporter lowers runs in our engine, within the suite's tolerance.

Exporting is slow, so programs are kept in the cache, by the versions of what makes them. TABTUNE_SUITE=all takes every test; else every
sixth is taken.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import suite
from harness import CACHE, ROOT, note

HERE = Path(__file__).parent
PARTS = 1 if os.environ.get("TABTUNE_SUITE") == "all" else 6


def cases(flow):
    """The folder of the flow's cases, exported by two processes where they are not there yet, and their names."""
    key = hashlib.sha256((HERE / "suite.py").read_bytes() + (HERE / "requirements.txt").read_bytes()).hexdigest()[:16]
    folder = CACHE / "suite" / key / flow
    tests = [name for k, (name, _) in enumerate(suite.tests()) if k % PARTS == 0]
    if not all((folder / f"{n}.json").exists() for n in tests):
        jobs = [subprocess.Popen([sys.executable, HERE / "suite.py", flow, folder, str(shard), "2", "0", str(PARTS)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for shard in range(2)]
        for job in jobs:
            _, err = job.communicate()
            assert job.returncode == 0, err.decode(errors="replace")[-2000:]
    return folder, [case for n in tests for case in json.loads((folder / f"{n}.json").read_text())]


@pytest.mark.parametrize("flow", list(suite.flows()))
def test_suite(flow):
    folder, names = cases(flow)
    known = {n: json.loads((folder / n / "case.json").read_text()) for n in names}
    programs = [n for n in names if "export" not in known[n]]
    out = subprocess.run(["go", "run", "./conformance/runcases", "-root", folder], cwd=ROOT, input="\n".join(programs).encode(), capture_output=True)
    assert out.returncode == 0, out.stderr.decode(errors="replace")[-2000:]
    errors = {r["case"]: r.get("error") for r in map(json.loads, out.stdout.splitlines())}
    assert sorted(errors) == sorted(programs)
    failed, neither, more, worst = [], [], [], 0.0
    for name in programs:
        got = errors[name]
        if not got:
            got = suite.difference(load_file(folder / name / "out" / "0.safetensors"), load_file(folder / name / "want.safetensors"))
        ok, case = not isinstance(got, str) and got <= 1, known[name]
        stock = case.get("stock_error", case.get("stock"))
        if ok:
            worst = max(worst, got)
            if isinstance(stock, str) or stock > 1:
                more.append(name)
        elif isinstance(stock, str) or stock > 1:
            neither.append(f"{name}: here {got}; stock {stock}")
        else:
            failed.append(f"{name}: {got}")
    exporter = [f"{n}: {known[n]['export']}" for n in names if "export" in known[n]]
    note(f"backend test suite, {flow} flow", cases=len(names), lowered=len(programs), pass_here=len(programs) - len(failed) - len(neither),
         fail_in_stock_too=len(neither), pass_here_only=len(more), largest_difference_in_tolerances=worst)
    for line in neither:
        note("not run by the stock runtime either", case=line)
    for line in exporter:
        note("not lowered by the exporter", case=line)
    assert not failed, f"{len(failed)} of {len(programs)} cases:\n" + "\n".join(failed)

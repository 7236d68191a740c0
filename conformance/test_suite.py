"""ExecuTorch's own backend test suite: every case that the stock exporter lowers runs in our engine, within the suite's tolerance.

Exporting is slow, so programs are kept in the cache, by the versions of what makes them. make conformance takes every tenth test, make
conformance-all every one.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from safetensors.torch import load_file

import suite
from harness import ALL, CACHE, ROOT, note

HERE = Path(__file__).parent
PARTS = 1 if ALL else 10
FLOWS = list(suite.flows())


@pytest.fixture(scope="module")
def exported():
    """The folder with one folder for each flow, and the names of the tests in them; what is not there yet is exported by two processes."""
    key = hashlib.sha256((HERE / "suite.py").read_bytes() + (HERE / "requirements.txt").read_bytes()).hexdigest()[:16]
    folder = CACHE / "suite" / key
    tests = [name for k, (name, _) in enumerate(suite.tests()) if k % PARTS == 0]
    if not all((folder / f / f"{n}.json").exists() for f in FLOWS for n in tests):
        # What they say goes to files: the second would stop at a full pipe while the first is waited for.
        logs = [tempfile.TemporaryFile() for _ in range(2)]
        jobs = [subprocess.Popen([sys.executable, HERE / "suite.py", folder, str(shard), "2", "0", str(PARTS), *FLOWS],
                                 stdout=subprocess.DEVNULL, stderr=log) for shard, log in enumerate(logs)]
        for job, log in zip(jobs, logs):
            job.wait()
            log.seek(0)
            assert job.returncode == 0, log.read().decode(errors="replace")[-2000:]
    return folder, tests


@pytest.mark.parametrize("flow", FLOWS)
def test_suite(flow, exported):
    folder, tests = exported
    folder = folder / flow
    names = [case for n in tests for case in json.loads((folder / f"{n}.json").read_text())]
    known = {n: json.loads((folder / n / "case.json").read_text()) for n in names}
    programs = [n for n in names if "export" not in known[n]]
    out = subprocess.run(["go", "run", "./conformance/runcases", "-root", folder], cwd=ROOT, input="\n".join(programs).encode(), capture_output=True)
    assert out.returncode == 0, out.stderr.decode(errors="replace")[-2000:]
    errors = {r["case"]: r.get("error") for r in map(json.loads, out.stdout.splitlines())}
    assert sorted(errors) == sorted(programs)
    failed, neither, more, worst, apart = [], [], [], 0.0, 0.0
    for name in programs:
        got, case = errors[name], known[name]
        stock = case.get("stock_error", case.get("stock"))
        runs = not isinstance(stock, str) and stock <= 1
        if not got:
            ours = load_file(folder / name / "out" / "0.safetensors")
            got = suite.difference(ours, load_file(folder / name / "want.safetensors"))
            if runs and not isinstance(got, str):
                apart = max(apart, suite.difference(ours, load_file(folder / name / "stock.safetensors")))
        if not isinstance(got, str) and got <= 1:
            worst = max(worst, got)
            if not runs:
                more.append(name)
        elif not runs:
            neither.append(f"{name}: here {got}; stock {stock}")
        else:
            failed.append(f"{name}: {got}")
    exporter = [f"{n}: {known[n]['export']}" for n in names if "export" in known[n]]
    note(f"backend test suite, {flow} flow", cases=len(names), lowered=len(programs), delegated=sum(known[n].get("delegated", False) for n in programs),
         pass_here=len(programs) - len(failed) - len(neither), fail_in_stock_too=len(neither), pass_here_only=len(more),
         largest_difference_in_tolerances=worst, from_the_stock_runtime=apart)
    for line in neither:
        note("not run by the stock runtime either", case=line)
    for line in exporter:
        note("not lowered by the exporter", case=line)
    assert not failed, f"{len(failed)} of {len(programs)} cases:\n" + "\n".join(failed)

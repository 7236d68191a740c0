"""The operators that the stock runtime registers are those of engine/schemas.txt, which the engine's tests want to be there, each of them."""

from harness import ROOT, note


def test_operators():
    import executorch.kernels.quantized  # noqa: F401
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
    from executorch.runtime import Runtime

    stock = set(Runtime.get().operator_registry.operator_names)
    schemas = {line.split("(")[0] for line in (ROOT / "engine" / "schemas.txt").read_text().splitlines() if line and not line.startswith("#")}
    note("operators that the stock runtime registers", all=len(stock), in_schemas=len(schemas & stock))
    assert sorted(stock - schemas) == []

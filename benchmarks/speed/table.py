"""Results as Markdown, ready to be pasted into `benchmarks/README.md`."""

from typing import Any

from benchmarks.speed.figures import Figure, Part


def markdown(results: dict[str, Any]) -> str:
    """All parts, with machine, versions, commit and date above."""
    lines = [heading(results), ""]
    for part in (Part.from_dict(found) for found in results["parts"].values()):
        lines += [f"**{part.title}**: {part.how}.", ""]
        if part.figures:
            lines += ["| | | |", "|---|---:|---|"]
            lines += [f"| {figure.name} | {value(figure)} | {figure.beside} |" for figure in part.figures]
            lines.append("")
        for text in part.lacking:
            lines += [f"Not measured: {text}.", ""]
    return "\n".join(lines)


def heading(results: dict[str, Any]) -> str:
    """What was measured, on what, when, and how fast that is by itself."""
    machine, rates = results["machine"], results["rates"]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    instructions = " ".join(machine["instructions"]) or "none of those that matrix products gain from"
    dirty = " and changes that are not committed" if results["dirty"] else ""
    quick = " (`--quick`: small, only for trying)" if results["quick"] else ""
    ends = [f"{name} {100 * ratio:.0f} %" for name, ratio in results["rates_at_the_end"].items()]
    known = [bits for bits in ("float32", "bfloat16", "int8") if bits in rates]
    products = "GFLOP/s in " + ", ".join(f"{bits} {rates[bits]:.0f}" for bits in known)
    on_gpu = f"; GPU {rates['gpu']:,.0f} and {rates['gpu bfloat16']:,.0f}" if "gpu" in rates else ""
    return (
        f"`python -m benchmarks.speed`{quick} on {results['date'][:10]}, commit {results['commit']}{dirty}. "
        f"{machine['cpu']}, {machine['cores']} cores ({instructions}), {machine['memory_gib']:g} GiB, "
        f"{machine['gpu'] or 'no GPU'}, {machine['system']}; {versions}. Products of matrices on one core, {products}; "
        f"all cores together, float32 {rates['cores']:.0f}; one copies at {rates['memory']:.1f} GB/s{on_gpu} "
        f"(the same at the end, of that: {', '.join(ends)})."
    )


def value(figure: Figure) -> str:
    """A figure with its unit."""
    return f"{number(figure.value)} {figure.unit}".strip()


def number(found: float) -> str:
    """Three digits that count."""
    if abs(found) >= 100:
        return f"{found:,.0f}"
    return f"{found:.3g}"

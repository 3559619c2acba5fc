"""The metrics that nodes have, as the code registers them, and what expressions make of them."""

import re
import sys

# What Prometheus adds to every series.
ADDED = {"instance", "job"}


def known(root):
    """Names with their labels, as `Scrape` registers them."""
    path = root / "crates/telemetry/src/metrics.rs"
    if not path.exists():
        sys.exit(f"{path} is not there, where nodes' metrics are registered")
    source = path.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    prefix = re.search(r'const PREFIX: &str = "(\w+)"', source)[1]
    labels = {
        name: set(re.findall(r"(\w+): \w+", fields))
        for name, fields in re.findall(r"struct (Of\w+) \{([^}]*)\}", source)
    }
    scrape = re.search(r"pub struct Scrape \{(.*?)\n\}", source, re.S)[1]
    types = dict(re.findall(r"(\w+): ([^\n]+),\n", scrape + "\n"))
    found = {}
    for field, name in re.findall(r'(\w+): add\(\w+, "(\w+)"', source):
        kind = types[field]
        family = re.match(r"Family<(\w+)", kind)
        suffix = "_total" if "Counter" in kind else ""
        found[f"{prefix}_{name}{suffix}"] = labels[family[1]] if family else set()
    if not found:
        sys.exit(f"no metric found in {path}: has its form changed?")
    return found


def used(expression):
    return re.findall(r"\bdistributary_\w+", expression)


def grouped(expression):
    groups = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression)
    return {it.strip() for group in groups for it in group.split(",")}


def problems(place, expression, metrics):
    """What is wrong with an expression: metrics that nobody has, labels that they have not."""
    here = used(expression)
    for name in here:
        if name not in metrics:
            yield f"{place}: there is no metric `{name}`"
    # In one expression all metrics have what they are put together by.
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!)", expression))
    has = set.intersection(*(metrics.get(name, set()) for name in here)) if here else set()
    for label in (matched | grouped(expression)) - has - ADDED:
        yield f"{place}: `{label}` is no label of {', '.join(sorted(set(here)))}"
    if not here and expression:
        yield f"{place}: shows nothing of ours"
    for pair in ("()", "{}", "[]"):
        if expression.count(pair[0]) != expression.count(pair[1]):
            yield f"{place}: `{pair}` do not match"

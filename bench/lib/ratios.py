"""What the results of a set of items (items.measure) say about how systems compare."""


def best(data, system, item):
    """(model, times) of the variant with the smallest CPU time, or None."""
    choices = [(v, rows[item]) for v, rows in data["times"].get(system, {}).items() if item in rows]
    return min(choices, key=lambda c: min(c[1]["cpu"]), default=None)


def smallest(data, system, item, clock="cpu"):
    found = best(data, system, item)
    return min(found[1][clock]) if found else None


def ratio(data, item, system, base, clock="cpu"):
    a, b = smallest(data, system, item, clock), smallest(data, base, item, clock)
    return a / max(b, 1e-9) if a is not None and b is not None else None


def ratios(data, system, base, clock="cpu", items=None):
    """{item: time of SYSTEM / time of BASE} for the items that both have."""
    found = {i: ratio(data, i, system, base, clock) for i in (data["order"] if items is None else items)}
    return {i: r for i, r in found.items() if r is not None}

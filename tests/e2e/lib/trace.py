"""Reads a trace and checks its structure as Perfetto's importer of Chrome's JSON wants it; other tests count what is in it."""
import json, sys
from collections import Counter, defaultdict

NS = 1000	# of a microsecond, the unit of ts and dur


def load(path):
    trace = json.load(open(path))
    assert set(trace) == {"displayTimeUnit", "otherData", "traceEvents", "summary"}, set(trace)
    events = trace["traceEvents"]
    assert len(events) == trace["summary"]["events"], "the summary miscounts"
    named, slices = {}, defaultdict(list)
    for e in events:
        assert e["ph"] in ("X", "i", "M"), e
        assert isinstance(e["pid"], int) and isinstance(e["tid"], int) and isinstance(e["name"], str), e
        if e["ph"] == "M":
            assert e["name"] in ("process_name", "thread_name", "process_sort_index", "thread_sort_index"), e
            if e["name"] == "thread_name":
                named[e["pid"], e["tid"]] = e["args"]["name"]
            continue
        assert e["ts"] >= 0 and e["cat"] and isinstance(e["args"], dict), e
        if e["ph"] == "X":
            assert e["dur"] >= 0, e
            slices[e["pid"], e["tid"]].append(e)
        else:
            assert e["s"] == "t", e
        assert (e["pid"], e["tid"]) in named, f"a track without a name: {e}"
    for track, list_ in slices.items():
        stack = []
        spans = sorted(((round(e["ts"] * NS), -round(e["ts"] * NS) - round(e["dur"] * NS)) for e in list_))
        for begin, minus_end in spans:
            end = -minus_end
            while stack and stack[-1] <= begin:
                stack.pop()
            assert not stack or end <= stack[-1], f"slices of {track} cross at {begin / NS} us"
            stack.append(end)
    return trace, Counter((e["cat"], e["name"]) for e in events if e["ph"] != "M"), named

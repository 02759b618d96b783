"""Tell of a bench in a picture, a table and a sentence: plot.py RESULTS.json [--svg FILE] [--pages DIR].

RESULTS.json is what `bench/run.py --json` has kept. The picture (by matplotlib) has the best seconds of shardweld, of the limit of copying, of torch and of
NeMo Automodel, with machine, date and versions below; it is readable on light and on dark pages. --pages DIR writes the same numbers into the table
of DIR/docs/speed.md and the sentence of DIR/README.md, so that all of them are those of one bench.
"""

import argparse
import json
import os
import re
import textwrap

OURS, LIMIT = "shardweld, 2 ranks", "copying the bytes, 2 processes"
COLOURS = {OURS: "#2e9e5b", LIMIT: "#8f96a3", "NeMo Automodel": "#d98a1f", "torch": "#d0503f"}
# What CSS changes on a dark page; matplotlib writes its colours into each element.
DARK = """<style>@media (prefers-color-scheme: dark) {
#page path { fill: #16181d !important } text { fill: #ddd !important }
}</style>"""


def best(case, *names):
    """The best seconds of the contenders whose names begin so, or None."""
    return min((min(c["seconds"]) for c in case["contenders"] if c["name"].startswith(names)), default=None)


def rows(results):
    """What is compared of each case that had its input in memory: {bar or column: seconds}."""
    for case in results["cases"]:
        if case["state"].startswith("warm"):
            yield case, {
                OURS: best(case, "shardweld, 2 ranks, band"),
                "owner": best(case, "shardweld, 2 ranks, owner"),
                LIMIT: best(case, "limit, 2 processes"),
                "torch": best(case, "torch"),
                "NeMo Automodel": best(case, "NeMo"),
            }


def span(results):
    """How many times as fast as torch, at least and at most."""
    times = [seconds["torch"] / seconds[OURS] for _, seconds in rows(results) if seconds["torch"]]
    return round(min(times)), round(max(times))


def said(whole, every):
    """Seconds of one process, and on every rank where that was tried."""
    one, all_ranks = (f"{s:.1f}" if s else "" for s in (whole, every))
    return f"{one}; on every rank {all_ranks}" if all_ranks else one or "-"


def table(results):
    """The lines of the table in docs/speed.md."""
    out = ["| shards, output files | limit | shardweld, 2 ranks | by owner | torch | NeMo | of the limit | faster than torch |",
           "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for case, s in rows(results):
        one = {c["name"]: min(c["seconds"]) for c in case["contenders"]}
        theirs = [said(one.get(w), one.get(f"{w} on every rank, 2 ranks")) for w in ("torch", "NeMo")]
        faster = f"{s['torch'] / s[OURS]:.0f} times" if s["torch"] else "-"
        out.append(f"| {case['layout']}, {case['files']} | {s[LIMIT]:.2f} | {s[OURS]:.2f} | {s['owner']:.2f} | {' | '.join(theirs)} | {s[OURS] / s[LIMIT]:.2f} | {faster} |")
    return out


def facts(results):
    """What stands below the picture."""
    m, v, size = results["machine"], results["versions"], max(case["bytes"] for case in results["cases"])
    peers = [f"{name} {v[key]}" for key, name in (("torch", "torch"), ("NeMo", "NeMo Automodel")) if key in v]
    busy = f" (busy with other work: load {m['load']})" if m["load"] > m["cores"] else ""
    lacks = "" if "NeMo" in v else " NeMo Automodel could not be installed there."
    return (f"Seconds of one machine, {results['date']}: {m['cores']} cores of {m['cpu']}, {m['memory']}, {m['store']}, {m['system']}{busy}; shardweld {v['shardweld']}, {', '.join(peers)}. "
            f"A Llama-shaped BF16 checkpoint of {size / 2**30:.1f} GiB in {results['ranks']} shards, in memory; nobody waits for the disk; best of {results['best']} (torch, NeMo: {results['torch_best']}), in turns; without the start of "
            f"MPI and of Python. torch and NeMo: the faster of one process and, with 4 files, 2 ranks.{lacks}")  # fmt: skip


def draw(results, path):
    """The only thing here that needs matplotlib."""
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "shardweld", "font.family": "sans-serif", "font.size": 9, "text.color": "#222222"})
    cases = list(rows(results))
    counts = sorted({case["files"] for case, _ in cases})
    figure, panels = plt.subplots(1, len(counts), figsize=(9.6, 4.4), sharex=True, squeeze=False)
    figure.patch.set_gid("page")
    longest = max(s for _, seconds in cases for s in seconds.values() if s)
    for panel, count in zip(panels[0], counts):
        y, ticks = 0, []
        for case, seconds in (c for c in cases if c[0]["files"] == count):
            begin = y
            for name, colour in COLOURS.items():
                if seconds[name]:
                    panel.barh(y, seconds[name], color=colour, height=0.86)
                    ratio = seconds[name] / seconds[OURS]
                    times = "" if name in (OURS, LIMIT) else f", {ratio:.0f} times as long"
                    panel.text(seconds[name] + longest / 80, y, f"{seconds[name]:.2f} s{times}", va="center", fontsize=8, weight="bold" if name == OURS else "normal")
                    y += 1
            ticks.append(((begin + y - 1) / 2, case["layout"]))
            y += 0.7
        panel.set(ylim=(y - 0.6, -0.8), xlim=(0, longest * 1.45), title=f"{count} output file{'s' * (count > 1)}", facecolor="none")
        panel.set_yticks([t for t, _ in ticks], [name for _, name in ticks])
        panel.set_xticks([])
        panel.tick_params(left=False)
        for side, spine in panel.spines.items():
            spine.set(visible=side == "left", color="#888888")
    marks = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(marks, COLOURS, loc="upper center", ncols=4, frameon=False)
    figure.text(0.02, 0.015, "\n".join(textwrap.wrap(facts(results), 165)), fontsize=7, va="bottom")
    figure.subplots_adjust(left=0.07, right=0.99, top=0.86, bottom=0.13, wspace=0.14)
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Type": None, "Format": None, "Title": "Seconds to weld: shardweld, copying, NeMo Automodel, torch"})
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r" +$", "", text.replace("<defs>", f"{DARK}\n<defs>", 1), flags=re.MULTILINE))


def rewrite(path, changes):
    """Each pattern, which is there once, gives way to its text."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for pattern, new in changes:
        text, count = re.subn(pattern, lambda found, new=new: new, text)
        if count != 1:
            raise SystemExit(f"{path}: {pattern!r} is there {count} times")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def picture(where):
    """What shows the picture in a page."""
    return f"![Seconds to weld with shardweld, to copy the same bytes, with NeMo Automodel and with torch; machine and date below]({where}speed.svg)\n\n"


def tell(results, top):
    """README has sentence and picture, docs/speed.md table and picture; where the picture is to stand the first time, the next line tells."""
    seconds = r"(?:!\[Seconds to weld.*\n\n)?"
    rewrite(os.path.join(top, "README.md"), [(r"\d+ to \d+ times as fast as torch's own function", sentence(results)),
                                             (seconds + r"!\[Tensors that", picture("docs/pictures/") + "![Tensors that")])  # fmt: skip
    rewrite(os.path.join(top, "docs", "speed.md"), [(r"\| shards, output files \|.*\n(\|.*\n)+", "\n".join(table(results)) + "\n"),
                                                    (seconds + "`make bench-plot` repeats", picture("pictures/") + "`make bench-plot` repeats")])  # fmt: skip


def sentence(results):
    return "{} to {} times as fast as torch's own function".format(*span(results))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--svg")
    parser.add_argument("--pages", metavar="DIR")
    args = parser.parse_args()
    with open(args.results, encoding="utf-8") as f:
        results = json.load(f)
    if "torch" not in results["versions"]:
        parser.error(f"{args.results} lacks torch: `make bench-plot` brings it")
    if args.svg:
        draw(results, args.svg)
    if args.pages:
        tell(results, args.pages)
    print("\n".join(table(results)), sentence(results), sep="\n")


if __name__ == "__main__":
    main()

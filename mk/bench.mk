# Timings, each beside another program in the same run.

BENCH_ARGS ?=
BENCHES = bench bench-cold bench-distcp bench-plan bench-ranks bench-cast bench-read bench-save bench-python bench-plot
.PHONY: $(BENCHES)

$(BUILD)/bench/bench_%: $(BUILD)/obj/bench/bench_%.o $(CORE)
	$(link)

#: bench         timings, BENCH_ARGS=
bench: all
	$(TEST_ENV) $(PYTHON) bench/run.py $(BENCH_ARGS)

# BENCH_ARGS=--check judges: within 1.1 of the limit, and 512 MiB of the page cache.
#: bench-cold    from a cold disk to a durable output, beside cp, dd and the copy limit
bench-cold: all
	$(TEST_ENV) $(PYTHON) bench/cold.py $(BENCH_ARGS)

#: bench-distcp  torch's own format beside safetensors, the copy limit, accelerate and torch
bench-distcp: all
	$(TEST_ENV) $(PYTHON) bench/distcp.py $(BENCH_ARGS)

# A header of 76 MB, against Python's json, safe_open where check-torch has brought it, and 64 MiB; then 64 to 25,000 files (5 GB), and 64 to 1,000 of .distcp.
#: bench-plan    how fast a large header is parsed, and how planning grows with files and ranks
bench-plan: all $(BUILD)/bench/bench_header $(BUILD)/bench/bench_metadata
	$(or $(wildcard $(VENV)/bin/python),$(PYTHON)) bench/header.py '$(abspath $(BUILD))/bench/bench_header'
	$(TEST_ENV) $(PYTHON) bench/scale.py --metadata '$(abspath $(BUILD))/bench/bench_metadata' $(BENCH_ARGS)

#: bench-ranks   what the ranks say to one another before the first byte, counted
bench-ranks: all $(COLLECTIVES) $(NODES)
	$(TEST_ENV) $(PYTHON) bench/collectives.py $(BENCH_ARGS)

# By each path; F32 to BF16 against 1.5 times memcpy.
#: bench-cast    how fast values are converted, beside memcpy
bench-cast: $(BUILD)/bench/bench_cast
	$(BUILD)/bench/bench_cast --check

#: bench-read    reading boxes of another mesh, beside torch's reader
bench-read: all $(BUILD)/bench/bench_reader
	$(TEST_ENV) BENCH_READER='$(abspath $(BUILD))/bench/bench_reader' $(PYTHON) bench/reader.py $(BENCH_ARGS)

#: bench-save    saving from memory, beside torch's save and consolidation
bench-save: all $(SAVE_ITEMS)
	$(TEST_ENV) $(PYTHON) bench/save.py $(BENCH_ARGS)

#: bench-python  the drop-in beside torch's function, in the same torchrun job
bench-python: all $(VENV_READY)
	$(TEST_ENV) $(VENV)/bin/python bench/python.py $(BENCH_ARGS)

# matplotlib lives in an environment of its own, and NeMo Automodel beside torch's, without what it is not asked for here.
PLOT_PACKAGES ?= matplotlib==3.11.2
NEMO_PACKAGES ?= nemo-automodel==0.7.0
PLOT_VENV = build/plot
PLOT_READY = $(PLOT_VENV)/ready-$(subst $(space),_,$(PLOT_PACKAGES) $(NEMO_PACKAGES))
$(PLOT_READY):
	rm -rf $(PLOT_VENV)
	$(PYTHON) -m venv $(PLOT_VENV) || /usr/bin/python3 -m venv --clear $(PLOT_VENV)
	$(PLOT_VENV)/bin/python -m pip install -qq $(PIP_ARGS) $(PLOT_PACKAGES)
	$(PLOT_VENV)/bin/python -m pip install -qq $(PIP_ARGS) --no-deps --target $(PLOT_VENV)/nemo $(NEMO_PACKAGES)
	touch '$@'

# The results, README's picture and sentence, and the table of docs/speed.md, from one bench: on a machine that does nothing else.
PLOT_ARGS ?= --best 6 --torch-best 3 --cold-best 0
RESULTS = docs/pictures/speed.json
PLOT = $(PLOT_VENV)/bin/python bench/plot.py $(RESULTS) --svg docs/pictures/speed.svg --pages .
#: bench-plot    README's plot and numbers, measured beside torch, NeMo Automodel and the copy limit
bench-plot: all $(VENV_READY) $(PLOT_READY)
	$(TEST_ENV) $(PYTHON) bench/run.py --only-weld --nemo '$(abspath $(PLOT_VENV))/nemo' --json $(RESULTS) $(PLOT_ARGS) $(BENCH_ARGS)
	$(PLOT)

#: plot          the same picture of the results that are there
.PHONY: plot
plot: $(PLOT_READY)
	$(PLOT)

# Fuzzing with clang's libFuzzer.

FUZZ_SECONDS ?= 60
FUZZ_FLAGS = -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

#: fuzz          the parsers of headers and pickles, and the library on whole directories: FUZZ_SECONDS=60 each; also: fuzz-header and so on
FUZZ_TARGETS = fuzz-header fuzz-pickle fuzz-dir
.PHONY: fuzz $(FUZZ_TARGETS)
fuzz: $(FUZZ_TARGETS)

# The parsers need neither MPI nor what lies above them.
FUZZ_SOURCES := $(sort $(wildcard src/base/*.c src/format/*.c))

$(BUILD)/fuzz/fuzz_pickle: src/dir/torchfile.c
$(BUILD)/fuzz/fuzz_header $(BUILD)/fuzz/fuzz_pickle: $(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_SOURCES) \
    $(wildcard src/base/*.h src/dir/torchfile.h src/format/*.h include/*.h)
	@mkdir -p $(@D)
	$(call say,FUZZ $@)
	$(Q)$(CLANG) $(FUZZ_FLAGS) $(ALL_CPPFLAGS) -o $@ $(filter %.c,$^) $(LIBS)

# Whole directories: the library and what shows them, all but main.
FUZZ_DIR_OBJECTS := $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,tests/fuzz/fuzz_dir.c tests/fuzz/fuzz_make.c \
                    $(LIB_SOURCES) $(filter-out src/cmd/main.c,$(CMD_SOURCES)))

$(BUILD)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZ $<)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -pthread $(ALL_CPPFLAGS) -DSW_COMMIT='""' -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/fuzz_dir: private LINKER = $(CLANG)
$(BUILD)/fuzz/fuzz_dir: private ALL_LDFLAGS = $(FUZZ_FLAGS) -pthread
$(BUILD)/fuzz/fuzz_dir: $(FUZZ_DIR_OBJECTS)
	$(link)

-include $(FUZZ_DIR_OBJECTS:.o=.d)

# Each from its seeds, for FUZZ_SECONDS. The seeds stay as they are: the fuzzer adds to a copy.
FUZZ_OPTIONS_header = -dict='$(abspath tests/fuzz/header.dict)' -rss_limit_mb=2048
FUZZ_OPTIONS_pickle = -rss_limit_mb=2048 -max_len=16384
FUZZ_OPTIONS_dir = -max_len=512 -len_control=0 -entropic=0
fuzz-dir: export ASAN_OPTIONS = malloc_context_size=5:quarantine_size_mb=2
$(FUZZ_TARGETS): fuzz-%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/fuzz/$*
	@[ ! -d tests/fuzz/$*_seeds ] || cp -R tests/fuzz/$*_seeds/. $(BUILD)/fuzz/$*/
	cd $(BUILD)/fuzz && ./fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -verbosity=1 \
	    $(FUZZ_OPTIONS_$*) -artifact_prefix="$$PWD/" "$$PWD/$*" >$*.log 2>&1 || { tail -n 60 $*.log; exit 1; }
	@tail -n 12 $(BUILD)/fuzz/$*.log

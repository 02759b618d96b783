# Fuzzing with clang's libFuzzer.

FUZZ_SECONDS ?= 60
FUZZ_FLAGS = -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

#: fuzz          the parsers of headers and pickles, and the library on whole directories: FUZZ_SECONDS=60 each; also: fuzz-header and so on
FUZZ_TARGETS = fuzz-header fuzz-pickle fuzz-dir
.PHONY: fuzz $(FUZZ_TARGETS)
fuzz: $(FUZZ_TARGETS)

# Compiled once for all of them. The parsers need neither MPI nor what lies above them; whole directories the library and what shows
# them, all but main.
fuzz_objects = $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(1))
PARSER_OBJECTS := $(call fuzz_objects,$(sort $(wildcard src/base/*.c src/format/*.c)))
FUZZ_OBJECTS := $(call fuzz_objects,$(sort $(wildcard tests/fuzz/*.c)) $(LIB_SOURCES) $(filter-out src/cmd/main.c,$(CMD_SOURCES)))

$(BUILD)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZ $<)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -pthread $(ALL_CPPFLAGS) -DSW_COMMIT='""' -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/fuzz_%: private LINKER = $(CLANG)
$(BUILD)/fuzz/fuzz_%: private ALL_LDFLAGS = $(FUZZ_FLAGS) -pthread
$(BUILD)/fuzz/fuzz_header: $(call fuzz_objects,tests/fuzz/fuzz_header.c) $(PARSER_OBJECTS)
	$(link)
$(BUILD)/fuzz/fuzz_pickle: $(call fuzz_objects,tests/fuzz/fuzz_pickle.c src/dir/torchfile.c) $(PARSER_OBJECTS)
	$(link)
$(BUILD)/fuzz/fuzz_dir: $(filter-out %/fuzz_header.o %/fuzz_pickle.o,$(FUZZ_OBJECTS))
	$(link)

-include $(FUZZ_OBJECTS:.o=.d)

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

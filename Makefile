# Every target sets up what it needs. Root may call them too: the work is then done as the user lisrt-ci (.ci/as-user).
#   make demo    install, then 512 sandboxes at once       make lint     ruff, clang-format, shell syntax
#   make test    C tests, also under ASan + UBSan; pytest  make types    mypy --strict
#   make bench   the benchmark, into build/out/bench.json  make docs     links and examples of the documents
#   make venv    .venv with lisrt and the tools in it      make format   lay out C and Python's imports
#   make fuzz    the fuzzers, SECONDS=10 each               make test-vm pytest in a virtual machine (tests/vm/)
#   make clean   remove what the above made
# ARGS='...' goes to pytest or to `lisrt bench`; `make c-test` and `make c-asan` run the C tests alone, and
# `make c-arm64` those that need no sandbox as they are built for that processor, in QEMU.

ARGS =
SECONDS = 10
USER_TARGETS = demo test test-vm lint types bench docs c-test c-asan c-arm64 fuzz
C_FILES = $(wildcard csrc/*.[ch] bench/floor/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch] tests/vm/*.c)
VM_PACKAGES = qemu-system-x86 mmdebstrap fakechroot fakeroot e2fsprogs

.PHONY: $(USER_TARGETS) venv format clean system system-arm64 system-vm clang
.NOTPARALLEL:

ifeq ($(shell id -u),0)

export ARGS
c-arm64: system-arm64
$(USER_TARGETS): system
	@.ci/as-user make --no-print-directory $@ "ARGS=$$ARGS" SECONDS=$(SECONDS)

fuzz: clang

else

demo: venv
	.venv/bin/lisrt bench --concurrency 512 $(ARGS)

test: c-test c-asan venv | build/out
	.venv/bin/pytest -q --junitxml=build/out/tests.xml $(ARGS)

lint: venv
	.venv/bin/ruff check
	.venv/bin/clang-format --dry-run --Werror $(C_FILES)
	for script in .ci/* tests/vm/image tests/vm/guest/*; do case $$script in *.py) ;; *) bash -n $$script || exit 1 ;; esac; done

types: venv
	.venv/bin/mypy

bench: venv | build/out
	.venv/bin/lisrt bench --json build/out/bench.json $(ARGS)

docs: venv
	.venv/bin/python .ci/check_docs.py

test-vm: venv
	.venv/bin/python tests/vm/run.py $(ARGS)

build/out:
	mkdir -p $@

# C: each tests/c/test_*.c is a program of its own, linked with the library (all of csrc/ but main.c), once as it is and
# once with the sanitizers in.

LIBRARY = $(filter-out main,$(basename $(notdir $(wildcard csrc/*.c))))
C_TESTS = $(basename $(notdir $(wildcard tests/c/test_*.c)))
HEADERS = $(wildcard csrc/*.h tests/c/*.h) csrc/cflags

plain_CC = gcc
plain_FLAGS = -O2 -g
asan_CC = gcc
asan_FLAGS = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
arm64_CC = aarch64-linux-gnu-gcc
arm64_FLAGS = -O2 -g -static

c-test: $(C_TESTS:%=build/c/plain/%)
	.ci/c-tests $^

c-asan: $(C_TESTS:%=build/c/asan/%)
	.ci/c-tests $^

c-arm64: $(addprefix build/c/arm64/,test_plan test_seccomp test_wire) | system-arm64
	RUNNER=qemu-aarch64-static .ci/c-tests $^

define flavour
.SECONDARY: $$(LIBRARY:%=build/c/$(1)/lib/%.o)
build/c/$(1)/lib/%.o: csrc/%.c $$(HEADERS) | system
	@mkdir -p $$(@D)
	$$($(1)_CC) @csrc/cflags -Werror $$($(1)_FLAGS) -c $$< -o $$@
build/c/$(1)/%: tests/c/%.c $$(LIBRARY:%=build/c/$(1)/lib/%.o) $$(HEADERS) | system
	$$($(1)_CC) @csrc/cflags -Werror $$($(1)_FLAGS) -Icsrc $$< $$(filter %.o,$$^) -o $$@
endef
$(eval $(call flavour,plain))
$(eval $(call flavour,asan))
$(eval $(call flavour,arm64))
$(LIBRARY:%=build/c/arm64/lib/%.o): | system-arm64

# Fuzzers: each tests/fuzz/fuzz_*.c is a program of its own, by clang, which has libFuzzer. fuzz_messages runs what starts
# commands: its fork is one that never forks.

FUZZERS = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_HEADERS = $(HEADERS) $(wildcard tests/fuzz/*.h)
fuzz_FLAGS = -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
fuzz_messages_LINK = -Wl,--wrap=fork

fuzz: $(FUZZERS:%=build/fuzz/fuzz_%)
	.ci/fuzz $(SECONDS) $(FUZZERS)

.SECONDARY: $(LIBRARY:%=build/fuzz/lib/%.o)
build/fuzz/lib/%.o: csrc/%.c $(FUZZ_HEADERS) | clang
	@mkdir -p $(@D)
	clang @csrc/cflags -Werror $(fuzz_FLAGS) -c $< -o $@
build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/plan_rules.c $(LIBRARY:%=build/fuzz/lib/%.o) $(FUZZ_HEADERS) | clang
	clang @csrc/cflags -Werror $(fuzz_FLAGS) -fsanitize=fuzzer -Icsrc $(filter %.c %.o,$^) $(fuzz_$*_LINK) -pthread -o $@

endif

system:
	@.ci/system

clang: # with libFuzzer and the sanitizers in it; llvm names functions and lines in what they print
	@.ci/system clang libclang-rt-dev llvm

system-arm64: system
	@.ci/system gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static

test-vm: system-vm
system-vm:
	@.ci/system $(VM_PACKAGES)

venv: .venv/installed

.venv/installed: pyproject.toml setup.py $(wildcard csrc/*.* bench/floor/*.*) csrc/cflags
	.ci/venv

format: venv
	.venv/bin/ruff check --fix --select I
	.venv/bin/clang-format -i $(C_FILES)

clean:
	rm -rf .venv build dist *.egg-info lisrt/_helper lisrt/kernel/*.so .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

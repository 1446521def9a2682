# Every target sets up what it needs. Root may call them too: the work is then done as the user lisrt-ci (.ci/as-user).
#   make demo    install, then 512 sandboxes at once       make lint     ruff, clang-format, shell syntax
#   make test    C tests, also under ASan + UBSan; pytest  make types    mypy --strict
#   make bench   the benchmark, into build/out/bench.json  make docs     links and examples of the documents
#   make venv    .venv with lisrt and the tools in it      make format   lay out C and Python's imports
#   make test-vm pytest in a virtual machine (tests/vm/)   make clean    remove what the above made
# ARGS='...' goes to pytest or to `lisrt bench`; `make c-test` and `make c-asan` run the C tests alone.

ARGS =
USER_TARGETS = demo test test-vm lint types bench docs c-test c-asan
C_FILES = $(wildcard csrc/*.[ch] tests/c/*.[ch] tests/vm/*.c)
VM_PACKAGES = qemu-system-x86 mmdebstrap fakechroot fakeroot e2fsprogs

.PHONY: $(USER_TARGETS) venv format clean system system-vm
.NOTPARALLEL:

ifeq ($(shell id -u),0)

export ARGS
$(USER_TARGETS): system
	@.ci/as-user make --no-print-directory $@ "ARGS=$$ARGS"

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

plain_FLAGS = -O2 -g
asan_FLAGS = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

c-test: $(C_TESTS:%=build/c/plain/%)
	.ci/c-tests $^

c-asan: $(C_TESTS:%=build/c/asan/%)
	.ci/c-tests $^

define flavour
.SECONDARY: $$(LIBRARY:%=build/c/$(1)/lib/%.o)
build/c/$(1)/lib/%.o: csrc/%.c $$(HEADERS) | system
	@mkdir -p $$(@D)
	gcc @csrc/cflags -Werror $$($(1)_FLAGS) -c $$< -o $$@
build/c/$(1)/%: tests/c/%.c $$(LIBRARY:%=build/c/$(1)/lib/%.o) $$(HEADERS) | system
	gcc @csrc/cflags -Werror $$($(1)_FLAGS) -Icsrc $$< $$(filter %.o,$$^) -o $$@
endef
$(eval $(call flavour,plain))
$(eval $(call flavour,asan))

endif

system:
	@.ci/system

test-vm: system-vm
system-vm:
	@.ci/system $(VM_PACKAGES)

venv: .venv/installed

.venv/installed: pyproject.toml setup.py $(wildcard csrc/*.*) csrc/cflags
	.ci/venv

format: venv
	.venv/bin/ruff check --fix --select I
	.venv/bin/clang-format -i $(C_FILES)

clean:
	rm -rf .venv build dist *.egg-info lisrt/_helper lisrt/kernel/*.so .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

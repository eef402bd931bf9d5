# A short front of CMake and Ninja: `make help`.

LISTEN ?= 127.0.0.1:5000
STORE  ?= data
T      ?= 60
PREFIX ?= /usr/local
ONLY   ?=

C_FILES = $(shell find src tests -name '*.[ch]')

.PHONY: all help deps run test conformance budgets bench bench-full fuzz tsan coverage format lint install clean

all: build-release ## build build/orlop
	@ln -sf release/orlop build/orlop

# One rule a preset: configure when that was never done, then build (Ninja configures again when it has to).
build-%:
	@[ -f build/$*/build.ninja ] || cmake --preset $*
	@cmake --build --preset $*

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

deps: ## install what building and running needs (Debian packages; asks sudo when not root)
	@packaging/install-deps.sh build

run: deps ## install what is missing, build, serve on LISTEN (127.0.0.1:5000) from STORE (./data)
	@$(MAKE) --no-print-directory all
	@exec build/orlop serve --listen $(LISTEN) --store $(STORE)

test: ## install what tests need, build with sanitizers, run every test (ONLY="unit http": these stages)
	@packaging/install-deps.sh test
	@exec python3 -B tests/run.py $(ONLY)

conformance: all ## the OCI conformance suites (needs Go >= 1.24)
	@packaging/install-deps.sh test
	@exec tests/conformance/run.py

budgets: all ## count what each operation costs in requests to S3, beside docker-registry; writes docs/budgets.md
	@packaging/install-deps.sh budgets || packaging/install-deps.sh test # without docker-registry beside it
	@exec python3 -B tests/s3/run.py --budgets

bench: deps ## measure beside nginx, docker-registry and plain S3 tools: ten minutes (the report: bench/results)
	@$(MAKE) --no-print-directory all
	@exec bench/run

bench-full: deps ## the same with larger blobs, more of everything, more rounds: a few hours
	@$(MAKE) --no-print-directory all
	@exec bench/run --full

fuzz: ## run every fuzzer T seconds (T=60), as many at once as there are cores
	@packaging/install-deps.sh all
	@$(MAKE) --no-print-directory build-fuzz
	@exec tests/fuzz/run.sh $(T)

tsan: ## unit tests, the stress test and races on S3 under ThreadSanitizer
	@packaging/install-deps.sh test
	@exec python3 -B tests/run.py --tsan

coverage: ## unit and black-box tests under gcov; the report is build/coverage/report.txt
	@packaging/install-deps.sh all
	@exec python3 -B tests/run.py --coverage

format: ## rewrite the C sources in the project's style
	@clang-format -i $(C_FILES)

lint: ## formatting, clang-tidy, layering, banned functions
	@packaging/install-deps.sh all
	@$(MAKE) --no-print-directory build-dev
	clang-format --dry-run -Werror $(C_FILES)
	find src tests -name '*.c' | xargs -P $$(nproc) -n 1 clang-tidy --quiet -p build/dev
	python3 -B tests/layering.py

install: all ## install below PREFIX (/usr/local); DESTDIR is honoured
	@cmake --install build/release --prefix $(PREFIX)

clean: ## remove everything built
	@rm -rf build

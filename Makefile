# `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SMALL_MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL ?= $(SMALL_MODEL)
# Tests see internal declarations; their build has a folder of its own, so that it never disturbs .build/release.
TEST_BUILD := -c release -Xswiftc -enable-testing --scratch-path .build-test

.PHONY: help setup packages model schema-peers build install serve test bench styles pictures docs check-clients check-example check-library check-peers check-memory check-openapi check-schemas check-vocabularies check-amx check-avx512 check-threads deb check-deb image docc format lint clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@printf '\nmake serve takes MODEL=path ADAPTERS=folder PORT=number ARGS="more flags"\n'

setup: packages model ## Debian packages where they are missing, and the small model
	@scripts/setup.sh conformance
	@scripts/setup.sh browser
	@scripts/setup.sh shells

packages:
	@scripts/setup.sh packages

model: packages
	@scripts/setup.sh python
	@.build-venv/bin/python scripts/fetch_model.py

build: packages ## .build/release/graft
	swift build -c release --product graft

# DESTDIR is for packages: the files then go below it.
PREFIX ?= /usr/local
install: build ## The binary, shell completions and manual pages below PREFIX=/usr/local
	scripts/install.sh .build/release/graft "$(DESTDIR)$(PREFIX)"

serve: build $(if $(filter $(SMALL_MODEL),$(MODEL)),model) ## Build and serve the small model, or MODEL=path
	@exec .build/release/graft serve --model "$(MODEL)" $(if $(ADAPTERS),--adapters "$(ADAPTERS)") \
	  $(if $(PORT),--port "$(PORT)") $(ARGS)

test: setup ## Every test: the libraries' own, then the HTTP and command line suite and the console in a browser, on the real model
	scripts/build_strictly.sh $(TEST_BUILD) --build-tests
	swift test $(TEST_BUILD) --skip-build --disable-xctest
	scripts/check_avx512.sh
	GRAFT_BINARY=.build-test/release/graft .build-venv/bin/python -m pytest -p no:cacheprovider Tests/Conformance $(PYTEST_ARGS)
	GRAFT_BINARY=.build-test/release/graft .build-venv/bin/python -m pytest -p no:cacheprovider Tests/Console $(PYTEST_ARGS)

bench: build model schema-peers ## Speed beside llama.cpp's and PEFT's (PEERS=0 leaves them out; SHAPES=135m,1b,8b CLIENTS=1,4,16,64 ROUNDS=5)
	.build-venv/bin/python scripts/bench/speed.py $(if $(filter 0,$(PEERS)),--no-peers) $(if $(SHAPES),--shapes $(SHAPES)) \
	  $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/serving.py $(if $(filter 0,$(PEERS)),--no-peers) \
	  $(if $(CLIENTS),--clients $(CLIENTS)) $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/training.py $(if $(filter 0,$(PEERS)),--no-peers) $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/living_together.py $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/batches.py $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/schemas.py $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-venv/bin/python scripts/bench/speculation.py $(if $(ROUNDS),--rounds $(ROUNDS))
	.build-schemas/bin/python scripts/bench/masks.py $(if $(filter 0,$(PEERS)),--no-peers) $(if $(ROUNDS),--rounds $(ROUNDS))
	.build/release/graft bench --model $(SMALL_MODEL) --accuracy Benchmarks/text/declaration-and-constitution.txt

styles: build model ## Train the tour's adapters again
	python3 scripts/examples/make_styles.py
	for style in pirate shout; do \
	  .build/release/graft train --model $(SMALL_MODEL) --data examples/data/$$style.jsonl --output .build-styles/$$style \
	    --overwrite --lora-r 4 --lora-alpha 16 --target-modules q_proj,v_proj,o_proj --learning-rate 4e-3 --n-epochs 12 \
	    --batch-size 8 --seed 7; \
	  python3 scripts/examples/round_adapter.py .build-styles/$$style examples/adapters/$$style; \
	done

pictures: setup build ## The console's pictures in docs/images, made again
	scripts/make_pictures.sh

docs: ## The pages of docs/ as a site in .build-docs/site, with strict checks of links
	@test -x .build-docs/venv/bin/python || python3 -m venv .build-docs/venv
	.build-docs/venv/bin/pip install -q -r scripts/docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 .build-docs/venv/bin/mkdocs build -d .build-docs/site
	.build-docs/venv/bin/python scripts/docs/check_site.py .build-docs/site

check-clients: build setup ## Client programs from PyPI against a server (CLIENTS=openai,dspy PYTEST_ARGS="-k tools")
	.build-venv/bin/python scripts/check_clients.py $(if $(CLIENTS),--only $(CLIENTS)) $(PYTEST_ARGS)

check-example: build setup ## The case of examples/orders: the base, the adapter's training, the adapter (five minutes)
	.build-venv/bin/python scripts/check_example.py

check-library: model ## The program of examples/swift, which uses Graft as a library
	scripts/build_strictly.sh -c release --package-path examples/swift --scratch-path .build-library
	.build-library/release/Ask | tee /dev/stderr | grep "^Arr, matey!" >/dev/null

check-peers: build model ## transformers, PEFT, bitsandbytes and llama.cpp read what Graft writes, and compute the same (ONLY="gguf mlx")
	.build-venv/bin/python scripts/check_peers.py $(ONLY)

check-memory: build ## Eight billion weights are prepared within 2 GiB and served within 5.2 GiB (10 GB of disk for a while)
	python3 scripts/check_memory.py

check-openapi: build model ## The server against its OpenAPI document, by schemathesis (SECONDS=120)
	@test -x .build-openapi/bin/python || python3 -m venv .build-openapi
	.build-openapi/bin/pip install -q schemathesis==4.32.5 openapi-spec-validator==0.9.0
	.build-openapi/bin/python scripts/check_openapi.py $(or $(SECONDS),120)

schema-peers:
	@test -x .build-schemas/bin/python || python3 -m venv .build-schemas
	.build-schemas/bin/pip install -q jsonschema==4.26.0 llguidance==1.9.1

check-schemas: schema-peers ## Grammars of random JSON schemas against jsonschema and llguidance
	swift build --build-tests -Xcc -O2 --scratch-path .build-dev
	.build-schemas/bin/python scripts/check_schemas.py $(SCHEMA_ARGS) -- \
	  swift test -Xcc -O2 --scratch-path .build-dev --skip-build --disable-xctest --filter SchemaComparisonTests

check-vocabularies: ## Tokenizers against llama.cpp's, sentencepiece, tiktoken, mistral-common and tokenizers (VOCABULARY_ARGS="--seed 2")
	@test -x .build-vocabularies/venv/bin/python || python3 -m venv .build-vocabularies/venv
	.build-vocabularies/venv/bin/pip install -q sentencepiece==0.2.3 tokenizers==0.23.3 tiktoken==0.14.0 \
	  mistral-common==1.13.1 protobuf==7.36.2 gguf==0.19.0 scikit-build-core cmake ninja
	swift build --build-tests -Xcc -O2 --scratch-path .build-dev
	.build-vocabularies/venv/bin/python scripts/check_vocabularies.py $(VOCABULARY_ARGS) -- \
	  swift test -Xcc -O2 --scratch-path .build-dev --skip-build --disable-xctest --filter VocabularyComparisonTests

check-amx: packages model ## Every Swift test on emulated tile registers, on a processor with AVX-512 VNNI and BF16 (15 to 20 minutes)
	scripts/check_amx.sh

check-avx512: packages ## The AVX-512 kernels, emulated, give the reference's bits (part of make test)
	scripts/check_avx512.sh

check-threads: packages ## The tests of what threads share, under ThreadSanitizer (five minutes)
	scripts/check_threads.sh

# A binary with Swift's libraries in it, so that the machines that it is for need no Swift.
PACKAGES := .build-packages
DEB := $(PACKAGES)/graft_$(shell scripts/package/version.sh)-1_$(shell dpkg --print-architecture 2>/dev/null).deb
deb: packages ## A Debian package in .build-packages
	@scripts/setup.sh packaging
	swift build -c release --product graft --static-swift-stdlib --scratch-path .build-deb
	scripts/package/make_deb.sh .build-deb/release/graft $(PACKAGES)
	lintian --fail-on error $(DEB)

check-deb: deb model ## The package is installed, serves, is upgraded and removed in a fresh root of Debian (as root)
	@mkdir -p $(PACKAGES)
	test -e $(PACKAGES)/root.tar || mmdebstrap --quiet --variant=minbase --include=systemd,ca-certificates bookworm \
	  $(PACKAGES)/root.tar http://deb.debian.org/debian
	python3 scripts/package/check_deb.py $(DEB) $(SMALL_MODEL) $(PACKAGES)/root.tar

image: deb model ## An OCI image of the package in .build-packages, made and checked without a container engine (as root)
	@scripts/setup.sh image
	scripts/package/make_image.sh $(DEB) $(PACKAGES)
	python3 scripts/package/check_image.py $(DEB:_$(shell dpkg --print-architecture 2>/dev/null).deb=.oci.tar) $(SMALL_MODEL)

docc: build ## DocC archives of the libraries in .build-documentation, without warnings
	python3 scripts/check_documentation.py .build

format: ## Lay the Swift sources out
	swift format --in-place --recursive --parallel Package.swift Sources Tests examples/swift

lint: ## Check the layout
	swift format lint --strict --recursive --parallel Package.swift Sources Tests examples/swift

clean: ## Remove what was built (the model stays)
	rm -rf .build .build-test .build-threads .build-venv .build-clients .build-peers .build-schemas .build-vocabularies .build-openapi .build-styles \
	  .build-deb .build-packages .build-documentation .build-docs .build-library

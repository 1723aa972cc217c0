# Each verb installs what it lacks and says so; `make help` lists them. The work is in tools/.
.DEFAULT_GOAL := help
.PHONY: build demo check test api-test websocket-test websocket-bench e2e bench instructions fuzz docker docker-demo clean envoy-path help

build: ## Build dist/tenancy.wasm, dist/tenancyd and dist/upstream
	@tools/build.sh
demo: build ## Run it all here: Envoy, tenancyd, two upstreams, and curl and WebSocket clients against them
	@tools/demo.sh
check: ## Format, lints, documentation, licences, advisories, shell scripts and the project's own rules
	@tools/check.sh
test: ## Run every test, natively and in a real Envoy
	@tools/test.sh --workspace
api-test: ## Hold tenancyd to its OpenAPI document with made-up requests
	@tools/api-test.sh
websocket-test: ## WebSocket clients as they are, with the filter and without: Autobahn, Chromium, Python, HTTP/2; PARTS=…
	@tools/websocket-test.sh $(PARTS)
websocket-bench: ## Measure what an open connection and a message on it cost in Envoy, with the filter and without
	@tools/websocket-test.sh bench
e2e: ## Run only the tests in a real Envoy
	@tools/test.sh --test e2e
bench: ## Measure the filter against what people would use instead: all, or BENCH=subdomain|…|latency|footprint|rooms; ROUNDS=100
	@tools/bench.sh $(BENCH)
instructions: ## Hold the instructions of a request to the figures of bench/instructions.json; ACCEPT=1 writes new ones
	@tools/instructions.sh
fuzz: ## Fuzz what reads bytes, each target for FUZZ_SECONDS (60); needs a nightly Rust
	@tools/fuzz.sh
docker: build ## Build the container images
	@tools/docker.sh images
docker-demo: build ## The demo in containers, with Docker Compose
	@tools/docker.sh demo
clean: ## Remove what was built and downloaded into this folder
	rm -rf target dist .venv
envoy-path: ## Print the path of the Envoy in use (make -s envoy-path)
	@tools/envoy.sh
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

# One door to everything. A target says what it does in the comment behind it; make help prints them. What a gate
# checks is written in scripts/ci/*.sh, so that any CI system only calls those.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export GOTOOLCHAIN ?= local
# The header of NVML marks what older drivers still need.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  %-26s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- building -----------------------------------------------------------------------------------------------------
.PHONY: build
build: build-cli build-devstack ## build every program into bin/
	go build -o bin/ $$(go list ./cmd/... | grep -v /gpuaas-cli$$) ./bench/smoke ./bench/drill

.PHONY: build-cli
build-cli: ## build the command-line client, bin/gpuaas
	go build -o bin/gpuaas ./cmd/gpuaas-cli

.PHONY: build-devstack
build-devstack: ## build the development stack, bin/devstack (minutes when nothing is cached)
	@mkdir -p bin
	go -C devstack build -o ../bin/devstack ./cmd/devstack

.PHONY: codegen
codegen: ## generate constants, bundled contracts and clients from schema/
	scripts/ci/codegen.sh

# --- running ------------------------------------------------------------------------------------------------------
.PHONY: up
up: build-devstack build-cli ## run the whole platform in one process; GPUAAS_DATA, GPUAAS_PORT_BASE, GPUAAS_SIM_NODES
	exec bin/devstack up

.PHONY: down-clean
down-clean: build-devstack ## remove the data of the instance in GPUAAS_DATA
	bin/devstack down-clean

.PHONY: dev-infra
dev-infra: build-devstack ## run only what the programs need: Postgres, Temporal with UI, step-ca, issuer, Redis, NATS
	exec bin/devstack infra

.PHONY: dev-api
dev-api: ## run cmd/api against dev-infra, anew after each change
	scripts/dev/run.sh --reload api

.PHONY: dev-worker-billing
dev-worker-billing: ## run cmd/billing-worker against dev-infra
	scripts/dev/run.sh billing-worker

.PHONY: dev-worker-provisioning
dev-worker-provisioning: ## run cmd/provisioning-worker against dev-infra
	scripts/dev/run.sh provisioning-worker

.PHONY: dev-worker-outbox
dev-worker-outbox: ## run cmd/outbox-relay against dev-infra
	scripts/dev/run.sh outbox-relay

.PHONY: dev-worker-notification
dev-worker-notification: ## run cmd/notification-relay against dev-infra
	scripts/dev/run.sh notification-relay

.PHONY: dev-worker-webhook
dev-worker-webhook: ## run cmd/webhook-worker against dev-infra
	scripts/dev/run.sh webhook-worker

.PHONY: db-init
db-init: ## apply every migration to DATABASE_OWNER_URL, or to the running instance's database
	scripts/dev/database.sh migrate

.PHONY: seed
seed: ## apply schema/seed.sql, which may be repeated
	scripts/dev/database.sh seed

# --- checking -----------------------------------------------------------------------------------------------------
.PHONY: test
test: ## go test ./..., without infrastructure
	go test ./...

.PHONY: test-integration
test-integration: build-devstack ## tests with the tag integration, on an infrastructure of their own
	scripts/ci/integration.sh

.PHONY: test-oidc
test-oidc: build-devstack ## every flow of OpenID Connect against the embedded issuer and a real Keycloak 26
	scripts/ci/oidc.sh

.PHONY: test-authz
test-authz: build-devstack ## every operation as every kind of caller, against the running API; ends with cases N failed M
	bin/devstack run --parts postgres,temporal,redis,nats -- go test -tags integration -count=1 -v -timeout 15m -run TestAuthorisationMatrix ./api/ | sed '/^cases /{h;d};$$G'

.PHONY: test-e2e
test-e2e: build-devstack build-cli ## what people see, in a real Chromium on an instance of its own; E2E_SPEC= chooses specs
	scripts/ci/frontend_e2e.sh

.PHONY: e2e-up
e2e-up: build-devstack build-cli ## an instance beside make up's to write browser specs against: ENDPOINTS=$PWD/.data-e2e/endpoints.json make test-e2e
	GPUAAS_DATA=$${GPUAAS_DATA:-$$PWD/.data-e2e} exec bin/devstack up

.PHONY: lint
lint: ## golangci-lint and workflowcheck
	scripts/ci/lint.sh

.PHONY: sdk-smoke
sdk-smoke: build-devstack ## generate, build both clients as their users would, call an instance; CODEGEN_ENFORCE_CLEAN=1 refuses stale files
	scripts/ci/sdk_codegen_smoke.sh

.PHONY: fuzz-api
fuzz-api: build-devstack ## schemathesis over every operation as two people; N= requests at least, SEED=
	scripts/ci/fuzz_api.sh

.PHONY: breaking-changes
breaking-changes: ## hold the contract against the last tag's; BASE compares with another commit
	scripts/ci/breaking_changes.sh

.PHONY: smoke
smoke: ## the main job once against the running instance
	go run ./bench/smoke

.PHONY: verify
verify: ## everything that CI checks
	scripts/ci/verify.sh

.PHONY: bench-allocation
bench-allocation: build-devstack ## request → active, beside its limit
	scripts/ci/bench.sh allocation

.PHONY: bench-api
bench-api: build-devstack ## requests through the API, beside bare handlers on the same database
	GPUAAS_REDIS=$$(scripts/ci/redis.sh) scripts/ci/bench.sh api

.PHONY: bench-billing
bench-billing: build-devstack ## windows through Temporal, the ledger writer and the balance read, beside their limits
	scripts/ci/bench.sh billing

.PHONY: bench-outbox
bench-outbox: build-devstack ## the relay beside publishing alone, writers of events with a relay beside them and without, commit to WebSocket
	scripts/ci/bench.sh outbox

.PHONY: bench-funds
bench-funds: build-devstack ## CPU and state transitions a billed window, settled one at a time and fifteen
	scripts/ci/bench.sh funds

.PHONY: drill-restart
drill-restart: build ## kill everything at random, then let the oracle judge; PLANT=double-window|skip-wipe|lost-window must turn it red
	scripts/ci/drill_restart.sh

.PHONY: drill-money
drill-money: build ## money under kills of everything and a Stripe that repeats, reorders and loses: N= allocations, SEED=, PLANT=double-credit|lost-event|lost-window
	scripts/ci/drill_money.sh

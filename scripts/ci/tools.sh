# Sourced by the gates: the exact versions of the tools that come from outside, and how they are run.
# Tools are run from the module proxy by exact version and are no dependency of the product's module.
export GOTOOLCHAIN=local
GOLANGCI_LINT_VERSION=v2.15.0
WORKFLOWCHECK_VERSION=v0.6.0
OAPI_CODEGEN_VERSION=v2.8.2
OASDIFF_VERSION=v1.37.0

oapi_codegen() {
  go run "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@${OAPI_CODEGEN_VERSION}" "$@"
}

oasdiff() {
  go run "github.com/oasdiff/oasdiff@${OASDIFF_VERSION}" "$@"
}

golangci_lint() {
  go run "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@${GOLANGCI_LINT_VERSION}" "$@"
}

workflowcheck() {
  go run "go.temporal.io/sdk/contrib/tools/workflowcheck@${WORKFLOWCHECK_VERSION}" "$@"
}

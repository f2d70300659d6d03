package temporal

import (
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/secret"
)

// failures writes what a step or a workflow ended with into its history, where operators read it: without secrets, in every
// sentence and stack of the chain. Details are sanitised where they are made, by ToApplicationError.
type failures struct{ converter.FailureConverter }

func newFailures() converter.FailureConverter {
	return failures{temporal.GetDefaultFailureConverter()}
}

// ErrorToFailure is err as a history holds it.
func (f failures) ErrorToFailure(err error) *failurepb.Failure {
	failure := f.FailureConverter.ErrorToFailure(err)
	for link := failure; link != nil; link = link.GetCause() {
		link.Message, link.StackTrace = secret.Text(link.GetMessage()), secret.Text(link.GetStackTrace())
	}
	return failure
}

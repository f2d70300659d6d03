package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
)

// refusalOf is the fault, with its details, of a step that refused for good; nil for every other error, and for none.
func refusalOf(err error) *Fault {
	var refused *temporal.ApplicationError
	if !errors.As(err, &refused) || !refused.NonRetryable() {
		return nil
	}
	found := &Fault{Code: refused.Type(), Message: refused.Message()}
	if refused.HasDetails() {
		_ = refused.Details(&found.Details) // a refusal without its details is a refusal
	}
	return found
}

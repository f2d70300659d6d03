package workflows

// AllocationState is everything a run hands to the next one.
type AllocationState struct{}

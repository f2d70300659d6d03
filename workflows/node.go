package workflows

// NodeState is everything a run hands to the next one.
type NodeState struct{}

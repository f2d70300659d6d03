package nodeapi

import (
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// Everything a node sends is built anew here, field by field from an allow-list, before it goes on. What is not
// named does not pass: neither fields that this build does not know, nor those that a later Temporal gives a meaning.

const (
	maxFailureDepth     = 8
	maxFailureTextBytes = 16 << 10
	maxPayloads         = 16
	// unsupportedFailure is the type of a failure whose kind a node has no business with.
	unsupportedFailure = "unsupported_failure"
)

// passMetadata are the keys of a payload's metadata that the SDK's converters use.
var passMetadata = []string{"encoding", "messageType"}

func payload(from *commonpb.Payload) *commonpb.Payload {
	if from == nil {
		return nil
	}
	built := &commonpb.Payload{Data: from.GetData(), Metadata: map[string][]byte{}}
	for _, key := range passMetadata {
		if value, given := from.GetMetadata()[key]; given {
			built.Metadata[key] = value
		}
	}
	return built
}

func payloads(from *commonpb.Payloads) *commonpb.Payloads {
	if from == nil {
		return nil
	}
	built := &commonpb.Payloads{}
	for _, one := range from.GetPayloads()[:min(len(from.GetPayloads()), maxPayloads)] {
		built.Payloads = append(built.Payloads, payload(one))
	}
	return built
}

// failure keeps the kinds that an activity can end with: an application's error, a cancellation, a time-out.
func failure(from *failurepb.Failure, depth int) *failurepb.Failure {
	if from == nil || depth > maxFailureDepth {
		return nil
	}
	built := &failurepb.Failure{
		Message:           clip(from.GetMessage()),
		Source:            clip(from.GetSource()),
		StackTrace:        clip(from.GetStackTrace()),
		EncodedAttributes: payload(from.GetEncodedAttributes()),
		Cause:             failure(from.GetCause(), depth+1),
	}
	switch info := from.GetFailureInfo().(type) {
	case *failurepb.Failure_ApplicationFailureInfo:
		built.FailureInfo = &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{
			Type:         clip(info.ApplicationFailureInfo.GetType()),
			NonRetryable: info.ApplicationFailureInfo.GetNonRetryable(),
			Details:      payloads(info.ApplicationFailureInfo.GetDetails()),
			Category:     info.ApplicationFailureInfo.GetCategory(),
		}}
	case *failurepb.Failure_CanceledFailureInfo:
		built.FailureInfo = &failurepb.Failure_CanceledFailureInfo{CanceledFailureInfo: &failurepb.CanceledFailureInfo{
			Details: payloads(info.CanceledFailureInfo.GetDetails()),
		}}
	case *failurepb.Failure_TimeoutFailureInfo:
		built.FailureInfo = &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{
			TimeoutType: info.TimeoutFailureInfo.GetTimeoutType(),
		}}
	default:
		built.FailureInfo = &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: unsupportedFailure}}
	}
	return built
}

func clip(text string) string {
	if len(text) <= maxFailureTextBytes {
		return text
	}
	end := maxFailureTextBytes
	for end > 0 && text[end]&0xC0 == 0x80 { // not inside a character
		end--
	}
	return text[:end]
}

// task is what a node is told of a task: all that the SDK's activity worker reads, its token sealed.
func task(from *workflowservice.PollActivityTaskQueueResponse, sealed []byte) *workflowservice.PollActivityTaskQueueResponse {
	return &workflowservice.PollActivityTaskQueueResponse{
		TaskToken:                   sealed,
		WorkflowNamespace:           from.GetWorkflowNamespace(),
		WorkflowType:                from.GetWorkflowType(),
		WorkflowExecution:           from.GetWorkflowExecution(),
		ActivityType:                from.GetActivityType(),
		ActivityId:                  from.GetActivityId(),
		Header:                      from.GetHeader(),
		Input:                       from.GetInput(),
		HeartbeatDetails:            from.GetHeartbeatDetails(),
		ScheduledTime:               from.GetScheduledTime(),
		CurrentAttemptScheduledTime: from.GetCurrentAttemptScheduledTime(),
		StartedTime:                 from.GetStartedTime(),
		Attempt:                     from.GetAttempt(),
		ScheduleToCloseTimeout:      from.GetScheduleToCloseTimeout(),
		StartToCloseTimeout:         from.GetStartToCloseTimeout(),
		HeartbeatTimeout:            from.GetHeartbeatTimeout(),
		RetryPolicy:                 from.GetRetryPolicy(),
	}
}

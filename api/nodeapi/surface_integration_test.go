//go:build integration

package nodeapi

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What the SDK's activity worker calls and which fields it sets is written down. When an update of the SDK adds a
// call or a field, this fails, and somebody decides whether the gateway shall let it pass.
func TestTheSDKSendsWhatTheGatewayKnows(t *testing.T) {
	w := newWorld(t)
	w.giver()
	n := w.enrolled("gpu-1")
	agent := w.work(w.dial(n), n.NodeID())
	if err := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth}).Get(w.ctx(), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.give(nodeTask{Node: n.NodeID(), Kind: node.ScrubVerify}).Get(w.ctx(), nil); err == nil {
		t.Fatal("the failing task succeeded")
	}
	run := w.give(nodeTask{Node: n.NodeID(), Kind: node.ScrubRun, Wait: time.Minute})
	temporaltest.Eventually(t, patience, func() error {
		if len(w.fromNodes.requests(workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName)) == 0 {
			return errors.New("no heartbeat of the task yet")
		}
		return nil
	})
	if err := w.temporal.CancelWorkflow(w.ctx(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(w.ctx(), nil); err == nil {
		t.Fatal("the cancelled task succeeded")
	}
	agent.Stop()
	compareGolden(t, "testdata/sdk_surface.golden", surface(w.fromNodes.all()))
	compareGolden(t, "testdata/forwarded_surface.golden", surface(w.forwarded.all()))
	if unknown := unknownIn(flatten(w.fromNodes.all())); unknown != 0 {
		t.Errorf("the SDK sets %d fields that this build's API does not know", unknown)
	}
}

func compareGolden(t *testing.T, path string, lines []string) {
	t.Helper()
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimSpace(string(want)), "\n")
	for _, line := range lines {
		if !slices.Contains(known, line) {
			t.Errorf("%s does not list %q: decide whether the gateway lets it pass, then run the test with -update", path, line)
		}
	}
	for _, line := range known {
		if !slices.Contains(lines, line) {
			t.Errorf("%s lists %q, which is not sent any more", path, line)
		}
	}
}

// surface lists "Method field.path" of everything set, sorted.
func surface(all map[string][]proto.Message) []string {
	found := map[string]bool{}
	for method, requests := range all {
		short := method[strings.LastIndex(method, "/")+1:]
		found[short] = true
		for _, request := range requests {
			paths(request.ProtoReflect(), short, func(path string) { found[path] = true })
		}
	}
	var lines []string
	for line := range found {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func paths(m protoreflect.Message, prefix string, visit func(string)) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		separator := "."
		if !strings.Contains(prefix, " ") {
			separator = " "
		}
		path := prefix + separator + string(field.Name())
		visit(path)
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
				visit(path + "[" + key.String() + "]")
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				paths(value.List().Get(i).Message(), path, visit)
			}
		case !field.IsList() && field.Message() != nil:
			paths(value.Message(), path, visit)
		}
		return true
	})
}

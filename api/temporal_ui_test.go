//go:build integration

package api_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

func TestTemporalsUIIsForOperatorsWhoRead(t *testing.T) {
	internal, err := url.Parse(os.Getenv("GPUAAS_TEST_TEMPORAL_UI_URL"))
	if err != nil || internal.Host == "" {
		t.Fatal("GPUAAS_TEST_TEMPORAL_UI_URL is not set: run `make test-integration`")
	}
	cluster := temporaltest.New(t, workflows.SearchAttributes()...)
	connected, err := temporal.Dial(t.Context(), cluster, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connected.Close)
	run, err := connected.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "seen-by-operators", TaskQueue: "nobody-works-here"}, "nothing")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoorway(t, redistest.Config(t), false, func(c *api.Config) { c.TemporalUI = internal })
	list := temporal.UIPath + "/api/v1/namespaces/" + cluster.Namespace + "/workflows"
	page := map[string]string{"Accept": "text/html,*/*"}
	own := map[string]string{"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}

	nobody := d.person()
	d.want(nobody.send("GET", list, "", nil), 401, "token_missing")
	sent := nobody.send("GET", temporal.UIPath+"/namespaces", "", page)
	if begun := sent.header.Get("Location"); sent.status != http.StatusOK && !strings.Contains(begun, "/api/v1/auth/signin") || !strings.Contains(string(sent.body), "password") {
		t.Errorf("a page without a session answers %d to %q: %s", sent.status, begun, sent.body)
	}

	alice := d.person()
	alice.signIn("/")
	d.want(alice.send("GET", list, "", nil), 403, "admin_required")
	d.want(alice.send("GET", temporal.UIPath, "", page), 403, "admin_required")
	d.want(alice.send("POST", list+"/"+run.GetID()+"/terminate", "{}", own), 403, "admin_required")

	admin := d.person()
	if arrived := admin.signInAs("dev-admin", "admin123", temporal.UIPath); arrived.header.Get("Location") != temporal.UIPath {
		t.Fatalf("the sign-in ends with %d at %q", arrived.status, arrived.header.Get("Location"))
	}
	if shown := admin.send("GET", temporal.UIPath, "", page); shown.status != http.StatusOK || !strings.Contains(string(shown.body), temporal.UIPath+"/_app/") ||
		!strings.Contains(strings.Join(shown.header.Values("Content-Security-Policy"), " "), "frame-ancestors 'self'") {
		t.Errorf("the page answers %d %v: %s", shown.status, shown.header, shown.body)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		seen := admin.send("GET", list, "", nil)
		if seen.status != http.StatusOK || !strings.Contains(string(seen.body), run.GetID()) {
			return &unseen{seen}
		}
		return nil
	})
	if asked := admin.send("POST", list+"/no-such-workflow/query/state", `{"query":{"queryType":"state"}}`, own); asked.status != http.StatusNotFound || asked.text("code") == "not_found" && strings.Contains(string(asked.body), "correlation_id") {
		t.Errorf("a query does not reach Temporal: %d %s", asked.status, asked.body)
	}
	for _, change := range []string{"/terminate", "/signal/release", "/cancel", "/query/x/terminate"} {
		d.want(admin.send("POST", list+"/"+run.GetID()+change, "{}", own), 405, "method_not_allowed")
		// Whoever gets past the API finds the UI itself for reading alone.
		if beside := admin.send("POST", internal.String()+list+"/"+run.GetID()+change, "{}", own); beside.status < 400 {
			t.Errorf("the UI itself takes %s: %d %s", change, beside.status, beside.body)
		}
	}
	described, err := connected.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
	if err != nil || described.GetWorkflowExecutionInfo().GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("the workflow is %v: %v", described.GetWorkflowExecutionInfo().GetStatus(), err)
	}
}

// unseen is an answer that does not show the workflow yet.
type unseen struct{ reply reply }

func (u *unseen) Error() string { return string(u.reply.body) }

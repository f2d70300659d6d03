//go:build integration

package api_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/schema"
)

// matrixFile says, for every operation and every kind of caller, what is answered. It is authored by hand and shares nothing
// with the table of routes, so that a mistake there cannot hide itself.
const matrixFile = "testdata/authorisation.yaml"

// allowed marks a cell in which the operation succeeds.
const allowed = "ok"

// callers are the columns of the matrix.
var callers = []string{
	"anonymous", "expired", "wrong_audience", "user", "other_tenant", "viewer", "member", "billing", "admin", "owner",
	"service_account", "service_account_without_scope", "suspended", "platform_admin",
}

// matrix is the file: profiles are rows with a name, operations name theirs or say what differs from it.
type matrix struct {
	Profiles   map[string]map[string]string `yaml:"profiles"`
	Operations map[string]struct {
		Profile string            `yaml:"profile"`
		Except  map[string]string `yaml:"except"`
		// Because explains an exception to whoever reads the file.
		Because string `yaml:"because"`
	} `yaml:"operations"`
}

func readMatrix(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(matrixFile)
	if err != nil {
		t.Fatal(err)
	}
	var authored matrix
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&authored); err != nil {
		t.Fatal(err)
	}
	rows := map[string]map[string]string{}
	for operation, line := range authored.Operations {
		profile, known := authored.Profiles[line.Profile]
		if !known {
			t.Fatalf("%s: there is no profile %q", operation, line.Profile)
		}
		row := maps.Clone(profile)
		maps.Copy(row, line.Except)
		for _, caller := range callers {
			if row[caller] == "" {
				t.Errorf("%s says nothing of %s", operation, caller)
			}
		}
		if len(row) != len(callers) {
			t.Errorf("%s names callers that do not exist: %v", operation, slices.Sorted(maps.Keys(row)))
		}
		if !slices.Contains(slices.Collect(maps.Values(row)), allowed) {
			t.Errorf("%s is allowed to nobody, so that nothing shows that it can succeed", operation)
		}
		rows[operation] = row
	}
	return rows
}

// addresses lists "METHOD /path" of every operation that the contract promises.
func addresses(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for path, item := range section(parseContract(t, schema.OpenAPI).root, "paths") {
		for method, operation := range item.(map[string]any) {
			if described, is := operation.(map[string]any); is {
				found[fmt.Sprint(described["operationId"])] = strings.ToUpper(method) + " " + path
			}
		}
	}
	return found
}

// TestAuthorisationMatrix asks every operation as every kind of caller. An allowed cell reaches 2xx on an object of its own; a
// denied one answers the code and leaves every row as it was.
func TestAuthorisationMatrix(t *testing.T) {
	rows, addressed := readMatrix(t), addresses(t)
	s := newScene(t)
	requests := s.recipes()
	cases, failed := 0, 0
	for _, operation := range slices.Sorted(maps.Keys(addressed)) {
		row, authored := rows[operation]
		prepare, known := requests[operation]
		if !authored || !known {
			failed++
			t.Errorf("%s has no row in %s or no request in the test", operation, matrixFile)
			continue
		}
		method, path, _ := strings.Cut(addressed[operation], " ")
		denied := prepare("denied")
		before := s.fingerprints()
		for _, caller := range callers {
			cases++
			if row[caller] == allowed {
				continue
			}
			if problem := s.refused(method, path, caller, row[caller], denied, before); problem != "" {
				failed++
				t.Errorf("%s as %s: %s", operation, caller, problem)
			}
		}
		for _, caller := range callers {
			if row[caller] != allowed {
				continue
			}
			if problem := s.succeeds(operation, method, path, caller, prepare(caller)); problem != "" {
				failed++
				t.Errorf("%s as %s: %s", operation, caller, problem)
			}
		}
	}
	for operation := range rows {
		if _, promised := addressed[operation]; !promised {
			failed++
			t.Errorf("%s has a row in %s and does not exist", operation, matrixFile)
		}
	}
	if s.told == 0 {
		t.Error("no event bears the correlation id of what was allowed, so that none of what is denied would be found")
	}
	fmt.Printf("cases %d failed %d\n", cases, failed)
}

// subject is what one request is made of: values of the path's parameters, a query and a body.
type subject struct {
	path  map[string]string
	query string
	body  string
	// form says that the body is a form and not JSON.
	form bool
	// token is that of somebody like the caller, where a success takes the caller away.
	token string
	// header is what the request carries beside the caller's credential.
	header map[string]string
	// at is the address of another API, set up as the operation needs it; the scene's own where it is empty.
	at string
}

// asks makes one request.
func (s *scene) asks(method, path, caller string, about subject) reply {
	for name, value := range about.path {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	s.asked++
	credential := s.credential(caller)
	if about.token != "" {
		credential = about.token
	}
	return s.send(method, path+about.query, credential, fmt.Sprintf("matrix-%d", s.asked), about)
}

// refused says what is wrong with a cell that must be denied and leave every row as it was, or nothing.
func (s *scene) refused(method, path, caller, want string, about subject, before map[string]string) string {
	got := s.asks(method, path, caller, about)
	if got.text("code") != want {
		return fmt.Sprintf("answers %d %s, not %s", got.status, got.body, want)
	}
	if events := s.events(got); events > 0 {
		return fmt.Sprintf("is denied and writes %d events", events)
	}
	for table, print := range s.tables() {
		if before[table] != print {
			return "is denied and changes " + table
		}
	}
	return ""
}

// events counts the events that a request's own change wrote.
func (s *scene) events(got reply) int {
	s.t.Helper()
	var events int
	err := s.Owner.QueryRow(s.t.Context(), `SELECT count(*) FROM outbox WHERE payload ->> 'correlation_id' = $1`, got.header.Get("X-Correlation-Id")).Scan(&events)
	if err != nil {
		s.t.Fatal(err)
	}
	return events
}

// succeeds says what is wrong with a cell that must reach 2xx, and be written to the audit log once where it is privileged.
func (s *scene) succeeds(operation, method, path, caller string, about subject) string {
	got := s.asks(method, path, caller, about)
	if got.status < 200 || got.status > 399 {
		return fmt.Sprintf("answers %d %s and is allowed", got.status, got.body)
	}
	if allocation := about.path["allocation_id"]; got.status == 202 {
		// The order is accepted and nothing of it stands yet: what it changes must not be laid at the door of who asks next.
		s.reach("/api/v1/allocations/"+allocation, s.credentials["user"], "released")
	}
	s.told += s.events(got)
	if !slices.Contains(api.PrivilegedMutations(), operation) {
		return ""
	}
	rows := s.field(`SELECT count(*)::text FROM audit_logs WHERE correlation_id = $1 AND result = 'success' AND actor_role <> 'system'
		AND action NOT IN (SELECT 'allocation.' || to_state FROM allocation_arrows)`, got.header.Get("X-Correlation-Id"))
	if rows != "1" {
		return rows + " audit rows tell of it"
	}
	return ""
}

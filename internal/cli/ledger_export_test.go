package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ledgerOf answers three pages of entries, the last of which breaks off where it is to.
func ledgerOf(t *testing.T, broken bool) (server *httptest.Server, asked *[]url.Values) {
	t.Helper()
	asked = &[]url.Values{}
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Query())
		w.Header().Set("Content-Type", "application/json")
		page := map[string]int{"": 0, "a": 1, "b": 2}[r.URL.Query().Get("cursor")]
		if page == 2 && broken {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprint(w, `{"code":"service_unavailable","message":"Not now.","correlation_id":"c","details":{}}`)
			return
		}
		cursor := []string{`,"next_cursor":"a"`, `,"next_cursor":"b"`, ``}[page]
		_, _ = fmt.Fprintf(w, `{"items":[{"id":%d,"kind":"usage","amount_micros":-1500000,"currency":"usd","allocation_id":"alloc_a","period_start":"2026-03-01T12:00:00.007Z",
			"period_end":"2026-03-01T12:01:00.007Z","created_at":"2026-03-01T12:01:00.123Z"},{"id":%d,"kind":"deposit","amount_micros":7,"currency":"usd","created_at":"2026-03-01T12:00:00Z"}]%s}`,
			9-2*page, 8-2*page, cursor)
	}))
	t.Cleanup(server.Close)
	return server, asked
}

func exportFrom(t *testing.T, server *httptest.Server, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	environment := map[string]string{"GPUAAS_API_URL": server.URL, "GPUAAS_TOKEN": "t", "GPUAAS_CONFIG": filepath.Join(t.TempDir(), "login.json")}
	code = Main(t.Context(), Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(key string) string { return environment[key] }},
		append([]string{"ledger", "export"}, arguments...))
	return code, out.String(), errs.String()
}

func TestTheLedgerIsExportedWhole(t *testing.T) {
	server, asked := ledgerOf(t, false)
	code, stdout, stderr := exportFrom(t, server, "--from", "2026-03-01", "--to", "2026-04-01", "--file", "-")
	rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	if code != ExitOK || err != nil || len(rows) != 7 {
		t.Fatalf("exit code %d (%v): %s%s", code, err, stdout, stderr)
	}
	if got := strings.Join(rows[1], " "); got != "9 2026-03-01T12:01:00.123Z usage -1500000 -1.500000 usd alloc_a 2026-03-01T12:00:00.007Z 2026-03-01T12:01:00.007Z " {
		t.Errorf("a line is %q", got)
	}
	if got := strings.Join(rows[6], " "); got != "4 2026-03-01T12:00:00Z deposit 7 0.000007 usd    " {
		t.Errorf("a line is %q", got)
	}
	for _, query := range *asked {
		if query.Get("since") != "2026-03-01T00:00:00Z" || query.Get("until") != "2026-04-01T00:00:00Z" {
			t.Errorf("it asks %v", query)
		}
	}

	file := filepath.Join(t.TempDir(), "ledger.json")
	if code, _, stderr := exportFrom(t, server, "--file", file); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var entries []map[string]any
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &entries) != nil || len(entries) != 6 || entries[5]["id"] != 4.0 {
		t.Errorf("the file holds %s (%v)", text, err)
	}
	if code, _, _ := exportFrom(t, server, "--file", file); code != ExitUsage {
		t.Errorf("a file that is there already ends with %d", code)
	}
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, text) {
		t.Errorf("the file that was there is %s (%v)", again, err)
	}
}

func TestAnExportThatBreaksOffLeavesNoFile(t *testing.T) {
	server, _ := ledgerOf(t, true)
	for _, format := range []string{"csv", "json"} {
		file := filepath.Join(t.TempDir(), "ledger."+format)
		code, _, stderr := exportFrom(t, server, "--file", file)
		if _, err := os.Stat(file); code == ExitOK || !os.IsNotExist(err) {
			t.Errorf("%s: exit code %d, and the file: %v: %s", format, code, err, stderr)
		}
	}
	for _, odd := range [][]string{{"--format", "xml"}, {"--from", "yesterday"}, {"--to", "2026-02-30"}} {
		if code, _, _ := exportFrom(t, server, append(odd, "--file", "-")...); code != ExitUsage {
			t.Errorf("%v ends with %d", odd, code)
		}
	}
}

func TestAnEmptyLedgerIsExported(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"items":[]}`)
	}))
	defer server.Close()
	var entries []any
	if code, stdout, _ := exportFrom(t, server, "--format", "json", "--file", "-"); code != ExitOK || json.Unmarshal([]byte(stdout), &entries) != nil || len(entries) != 0 {
		t.Errorf("exit code %d: %q", code, stdout)
	}
	if code, stdout, _ := exportFrom(t, server, "--file", "-"); code != ExitOK || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit code %d: %q", code, stdout)
	}
}

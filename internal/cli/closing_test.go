package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnExportIsOneDocumentWhateverItsPages(t *testing.T) {
	pages := map[string]string{
		"":  `{"schema_version":1,"exported_at":"2026-03-01T12:00:00.000Z","tenant_id":"tenant_a","sections":[{"name":"tenant","rows":[{"id":"a"}]},{"name":"audit","rows":[{"id":1}]}],"next_cursor":"x"}`,
		"x": `{"schema_version":1,"exported_at":"2026-03-01T12:00:01.000Z","tenant_id":"tenant_a","sections":[{"name":"audit","rows":[{"id":2},{"id":3}]}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(pages[r.URL.Query().Get("cursor")]))
	}))
	defer server.Close()
	var out, errs bytes.Buffer
	environment := map[string]string{"GPUAAS_API_URL": server.URL, "GPUAAS_TOKEN": "t", "GPUAAS_CONFIG": filepath.Join(t.TempDir(), "login.json")}
	if code := Main(t.Context(), Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(key string) string { return environment[key] }},
		[]string{"tenant", "export", "tenant_a"}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var whole struct {
		Sections []struct {
			Name string           `json:"name"`
			Rows []map[string]any `json:"rows"`
		} `json:"sections"`
		NextCursor string `json:"next_cursor"`
	}
	if err := json.Unmarshal(out.Bytes(), &whole); err != nil {
		t.Fatal(err)
	}
	if len(whole.Sections) != 2 || len(whole.Sections[1].Rows) != 3 || whole.NextCursor != "" {
		t.Fatalf("the document is %s", out.String())
	}
}

func TestClosingAndDeletingNameTheLossAndAsk(t *testing.T) {
	for _, arguments := range [][]string{{"tenant", "close", "tenant_a", "--reason", "r"}, {"me", "delete"}} {
		code, _, stderr, asked := invoke(t, "n\n", 200, `{}`, arguments...)
		if code == ExitOK || len(asked) != 0 || !strings.Contains(stderr, "erases") {
			t.Errorf("%v: exit code %d, %d requests, said %q", arguments, code, len(asked), stderr)
		}
	}
	if code, _, stderr, _ := invoke(t, "", 409, `{"code":"last_owner","message":"Why.","correlation_id":"c","details":{}}`, "me", "delete", "-y"); code != ExitConflict {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

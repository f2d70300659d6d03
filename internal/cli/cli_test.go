package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// invoke runs one command against a server that answers status and body, and gives back code, stdout and stderr.
func invoke(t *testing.T, input string, status int, body string, arguments ...string) (code int, stdout, stderr string, asked []string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	environment := map[string]string{"GPUAAS_API_URL": server.URL, "GPUAAS_TOKEN": "a-token", "GPUAAS_CONFIG": filepath.Join(t.TempDir(), "login.json")}
	var out, errs bytes.Buffer
	code = Main(t.Context(), Terminal{In: strings.NewReader(input), Out: &out, Err: &errs,
		Environment: func(key string) string { return environment[key] }}, arguments)
	return code, out.String(), errs.String(), asked
}

const someAllocation = `{"id":"alloc_a","name":"n","labels":{},"tenant_id":"t","project_id":"p","user_id":"u","state":"active","sku":"h100-8x","node_id":"node_a",
"rate_micros_per_hour":1,"currency":"usd","window_seconds":60,"isolation_model":"user-revoke","runtime_mode":"agent","requested_at":"2026-01-05T09:30:00.000Z","version":3,"cost_micros":1500000}`

func TestExitCodesTellTheKindOfTrouble(t *testing.T) {
	envelope := func(code string) string {
		return `{"code":"` + code + `","message":"Why.","correlation_id":"c-1","details":{}}`
	}
	cases := []struct {
		name      string
		status    int
		body      string
		arguments []string
		code      int
	}{
		{"done", 200, someAllocation, []string{"alloc", "get", "alloc_a"}, ExitOK},
		{"unknown command", 200, `{}`, []string{"allocs"}, ExitUsage},
		{"unknown subcommand", 200, `{}`, []string{"alloc", "gte"}, ExitUsage},
		{"unknown flag", 200, `{}`, []string{"balance", "--nope"}, ExitUsage},
		{"missing argument", 200, `{}`, []string{"alloc", "get"}, ExitUsage},
		{"bad output", 200, `{}`, []string{"balance", "-o", "xml"}, ExitUsage},
		{"validation", 400, envelope("validation_error"), []string{"alloc", "get", "x"}, ExitUsage},
		{"not found", 404, envelope("allocation_not_found"), []string{"alloc", "get", "alloc_a"}, ExitNotFound},
		{"no token", 401, envelope("token_missing"), []string{"balance"}, ExitAuth},
		{"not allowed", 403, envelope("admin_required"), []string{"policy", "list"}, ExitAuth},
		{"conflict", 409, envelope("idempotency_conflict"), []string{"alloc", "create", "h100-8x"}, ExitConflict},
		{"funds", 402, envelope("insufficient_balance"), []string{"alloc", "create", "h100-8x"}, ExitFunds},
		{"sold out", 409, envelope("sku_unavailable"), []string{"alloc", "create", "h100-8x"}, ExitCapacity},
		{"limit", 409, envelope("allocation_concurrency_limit"), []string{"alloc", "create", "h100-8x"}, ExitCapacity},
		{"away", 503, envelope("service_unavailable"), []string{"balance"}, ExitUnavailable},
		{"ours", 500, envelope("internal_error"), []string{"balance"}, ExitOther},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr, _ := invoke(t, "", c.status, c.body, c.arguments...)
			if code != c.code {
				t.Fatalf("exit code %d and not %d; stderr: %s", code, c.code, stderr)
			}
			if code != ExitOK && (stdout != "" || stderr == "") {
				t.Fatalf("trouble belongs on stderr alone; stdout %q, stderr %q", stdout, stderr)
			}
		})
	}
}

func TestARefusalIsSaidWithItsDetails(t *testing.T) {
	for _, c := range []struct {
		name, details string
		says          []string
	}{
		{"amounts in their currency", `{"shortfall_micros":4160000,"minimum_minor":500,"currency":"usd"}`,
			[]string{"  currency: usd", "  minimum: 5.00 usd", "  shortfall: 4.16 usd"}},
		{"an amount of no currency", `{"limit_micros":4160000}`, []string{"  limit micros: 4160000"}},
		{"numbers with all their digits", `{"held":12345678,"share":0.5}`, []string{"  held: 12345678", "  share: 0.5"}},
		{"lists and objects", `{"keys":["a","b"],"of":{"n":1},"none":null}`, []string{"  keys: a, b", "  none: null", `  of: {"n":1}`}},
		{"fields that are not valid", `{"errors":[{"location":"body.sku","message":"expected length >= 1"}]}`, []string{"  body.sku: expected length >= 1"}},
		{"nothing that a terminal obeys", `{"name":"\u001b[2J"}`, []string{"  name: �[2J"}},
		{"nothing", `{}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			envelope := `{"code":"insufficient_balance","message":"Too little.","correlation_id":"c-9","details":` + c.details + `}`
			_, _, stderr, _ := invoke(t, "", 402, envelope, "alloc", "create", "h100-8x")
			lines := append([]string{"gpuaas: Too little. (insufficient_balance)"}, c.says...)
			if said := strings.Join(append(lines, "  correlation id: c-9"), "\n") + "\n"; stderr != said {
				t.Errorf("it says\n%s\nand not\n%s", stderr, said)
			}
			for _, output := range []string{"json", "yaml"} {
				code, stdout, stderr, _ := invoke(t, "", 402, envelope, "alloc", "create", "h100-8x", "-o", output)
				var sent, shown any
				if err := yaml.Unmarshal([]byte(envelope), &sent); err != nil {
					t.Fatal(err)
				}
				if err := yaml.Unmarshal([]byte(stderr), &shown); err != nil || !reflect.DeepEqual(sent, shown) || code != ExitFunds || stdout != "" {
					t.Errorf("%s: exit code %d, stdout %q, stderr %q (%v)", output, code, stdout, stderr, err)
				}
			}
		})
	}
}

func TestWaitingTooLongIsATimeout(t *testing.T) {
	waited := `{"reached":false,"allocation":` + strings.Replace(someAllocation, `"active"`, `"provisioning"`, 1) + `}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body := someAllocation
		if strings.HasSuffix(r.URL.Path, "/wait") {
			body = waited
		}
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	var out, errs bytes.Buffer
	code := Main(t.Context(), Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(key string) string {
		return map[string]string{"GPUAAS_API_URL": server.URL, "GPUAAS_TOKEN": "t", "GPUAAS_CONFIG": filepath.Join(t.TempDir(), "x")}[key]
	}}, []string{"alloc", "create", "h100-8x", "--wait", "--timeout", "0"})
	if code != ExitTimeout {
		t.Fatalf("exit code %d and not %d: %s", code, ExitTimeout, errs.String())
	}
}

func TestIrreversibleActsNameTheLossAndAsk(t *testing.T) {
	for _, c := range []struct {
		name, input string
		flags       []string
		code        int
		released    bool
	}{
		{"yes", "y\n", nil, ExitOK, true},
		{"no", "n\n", nil, ExitOther, false},
		{"nobody there", "", nil, ExitUsage, false},
		{"script", "", []string{"--yes"}, ExitOK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr, asked := invoke(t, c.input, 200, someAllocation, append([]string{"alloc", "release", "alloc_a"}, c.flags...)...)
			if code != c.code {
				t.Errorf("exit code %d and not %d: %s", code, c.code, stderr)
			}
			if released := len(asked) > 1; released != c.released {
				t.Errorf("asked %v", asked)
			}
			if len(c.flags) == 0 && (!strings.Contains(stderr, "every file") || !strings.Contains(stderr, "node_a")) {
				t.Errorf("the loss is not named: %s", stderr)
			}
		})
	}
}

func TestJSONGoesToStdoutAsTheAPISentIt(t *testing.T) {
	_, stdout, _, _ := invoke(t, "", 200, someAllocation, "alloc", "get", "alloc_a", "-o", "json")
	var sent, shown any
	if json.Unmarshal([]byte(someAllocation), &sent) != nil || json.Unmarshal([]byte(stdout), &shown) != nil {
		t.Fatalf("stdout is not JSON: %s", stdout)
	}
	a, _ := json.Marshal(sent)
	b, _ := json.Marshal(shown)
	if !bytes.Equal(a, b) {
		t.Fatalf("shown %s\nsent %s", b, a)
	}
}

func TestAmountsKeepEveryDigit(t *testing.T) {
	for micros, expected := range map[int64]string{
		0: "0.00 usd", 1: "0.000001 usd", -1: "-0.000001 usd", 12_345_678: "12.345678 usd", 500_000: "0.50 usd", -98_752_000: "-98.752 usd",
	} {
		if shown := amount(micros, "usd"); shown != expected {
			t.Errorf("%d micros show as %q and not %q", micros, shown, expected)
		}
	}
}

func TestAmountsAreReadExactlyOrRefused(t *testing.T) {
	for text, expected := range map[string]int64{"25": 2500, "12.50": 1250, "-3.01": -301, "0.1": 10} {
		if read, err := minorUnits(text); err != nil || read != expected {
			t.Errorf("%q reads as %d, %v", text, read, err)
		}
	}
	for _, text := range []string{"", "1.005", "1e3", "1/3", "0x10", "ten", "99999999999999999999", "1_000"} {
		if read, err := minorUnits(text); err == nil {
			t.Errorf("%q was read as %d", text, read)
		}
	}
}

func TestControlCharactersOfANameDoNotReachTheTerminal(t *testing.T) {
	hostile := strings.Replace(someAllocation, `"name":"n"`, `"name":"\u001b]0;owned\u0007"`, 1)
	_, stdout, _, _ := invoke(t, "", 200, hostile, "alloc", "get", "alloc_a")
	if strings.ContainsAny(stdout, "\x1b\x07") {
		t.Fatalf("an escape sequence came through: %q", stdout)
	}
}

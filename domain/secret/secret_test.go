package secret_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gpuaas/gpuaas/domain/secret"
)

func TestName(t *testing.T) {
	for _, name := range []string{
		"password", "Password_Hash", "access_token", "refresh_token", "id_token", "ssh_private_key", "ssh_private_key_pem", "SSHPrivateKeyPath", "stripe_customer_id",
		"payment_reference", "Authorization", "terminal_token", "api-token", "accessToken", "AccessToken", "HTTPToken", "client_secret", "clientSecret",
		"X-Api-Key", "x-amz-security-token", "Sec-WebSocket-Protocol", "Set-Cookie", "Stripe-Signature", "GPUAAS_PROBE_SECRET", "PGPASSWORD", "apikey", "jwt",
		"user.password", "new_password", "password_confirmation", "gpuaas_session", "device_code", "code_verifier", "privateKey", "passphrase", "enrol_token",
		strings.Repeat("a_", 100) + "token",
	} {
		if !secret.Name(name) {
			t.Errorf("%s is taken for harmless", name)
		}
	}
	for _, name := range []string{
		"", "user", "public_key", "ssh_keys", "token_type", "token_ttl_seconds", "tokens", "max_tokens", "next_page_token", "page_token", "password_changed_at",
		"secret_name", "cookie_name", "idempotency_key", "key", "code", "auth", "correlation_id", "authorized_keys", "access_key_id", "node_id",
		"auth.service_account_token_ttl_seconds", "rate_limit.terminal_token_requests_per_minute", "signature", "level", "msg", "日本語", "---",
	} {
		if secret.Name(name) {
			t.Errorf("%s is taken for a secret", name)
		}
	}
}

type (
	inner struct {
		Token  string `json:"token"`
		Public string `json:"public"`
		hidden string
	}
	outer struct {
		inner
		Name     string         `json:"name"`
		Password *string        `json:"pw"`
		Nested   *inner         `json:"nested"`
		List     []inner        `json:"list"`
		ByName   map[string]any `json:"by_name"`
		Raw      json.RawMessage
		Skipped  string `json:"-"`
		Next     *outer
		Any      any
	}
	describes struct{ text string }
	panics    struct{}
	renders   struct{}
	logs      struct{ depth int }
)

func (d describes) String() string { return d.text }
func (panics) Error() string       { panic("no") }
func (renders) MarshalJSON() ([]byte, error) {
	return []byte(`{"password":"hunter2","name":"bob"}`), nil
}
func (l logs) LogValue() slog.Value {
	return slog.GroupValue(slog.String("token", "hunter2"), slog.Int("depth", l.depth))
}
func (s secretError) Error() string            { return "with token=" + string(s) }
func (forever) LogValue() slog.Value           { return slog.AnyValue(forever{}) }
func (l *listens) LogValue() slog.Value        { panic("no") }
func (t textual) MarshalText() ([]byte, error) { return []byte("password=" + string(t)), nil }

type (
	secretError string
	forever     struct{}
	listens     struct{}
	textual     string
	mood        string
)

func TestSanitizeWalksEverything(t *testing.T) {
	password := "hunter2"
	deep := &outer{
		inner: inner{Token: "hunter2", Public: "yes", hidden: "hunter2"}, Name: "bob", Password: &password, Nested: &inner{Token: "hunter2", Public: "yes"},
		List: []inner{{Token: "hunter2"}}, ByName: map[string]any{"id_token": "hunter2", "age": 3, "note": "Bearer hunter2345"},
		Raw: json.RawMessage(`{"deep":[{"client_secret":"hunter2"}],"big":12345678901234567890}`), Skipped: "hunter2",
		Any: map[string][]string{"Cookie": {"a=hunter2"}, "Accept": {"*/*"}},
	}
	deep.Next = deep // a circle
	address, err := url.Parse("https://bob:hunter2@a.example/x?token=hunter2&page=2")
	if err != nil {
		t.Fatal(err)
	}
	var nothing *outer
	for name, one := range map[string]struct {
		value any
		kept  string
	}{
		"struct":        {deep, `"public":"yes"`},
		"map":           {map[string]string{"password": "hunter2", "user": "bob"}, "bob"},
		"pair":          {map[string]any{"name": "DB_PASSWORD", "value": "hunter2"}, "DB_PASSWORD"},
		"typed pair":    {map[string]string{"key": "api_token", "value": "hunter2"}, "api_token"},
		"pair of words": {struct{ Name, Value string }{"DB_PASSWORD", "hunter2"}, "DB_PASSWORD"},
		"typed map":     {map[mood]any{"password": "hunter2", "user": "bob"}, "bob"},
		"map by struct": {map[describes]int{{"token=hunter2"}: 3}, "3"},
		"map by number": {map[int]secretError{3: "hunter2"}, "with token="},
		"error":         {fmt.Errorf("dial: %w", secretError("hunter2")), "dial: with"},
		"joined":        {errors.Join(errors.New("one"), secretError("hunter2")), "one"},
		"stringer":      {describes{"password=hunter2"}, "password="},
		"url":           {address, "page=2"},
		"text":          {textual("hunter2"), "password="},
		"own json":      {renders{}, "bob"},
		"raw json":      {json.RawMessage(`{"password":"hunter2","user":"bob"}`), "bob"},
		"broken json":   {json.RawMessage(`{"password":"hunter2","user":"bob`), "bob"},
		"bytes":         {[]byte("password=hunter2 user=bob"), "bob"},
		"log value":     {logs{3}, "3"},
		"log group":     {slog.GroupValue(slog.String("password", "hunter2"), slog.String("user", "bob")), "bob"},
		"list":          {[]any{"token=hunter2", 3, nil, []string{"id_token=hunter2"}}, "3"},
		"array":         {[2]secretError{"hunter2", "hunter2"}, "with token="},
		"pointers":      {&[]*string{nil, &[]string{"token=hunter2"}[0]}, "token="},
		"panicking":     {panics{}, "panics"},
		"endless":       {forever{}, ""},
		"panicking log": {&listens{}, ""},
		"nil pointer":   {nothing, "null"},
		"channel":       {map[string]any{"a": make(chan int), "b": func() {}, "c": complex(1, 2)}, "chan int"},
		"not a number":  {[]float64{math.NaN(), math.Inf(1), 1.5}, "1.5"},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := json.Marshal(secret.Sanitize("value", one.value))
			if err != nil {
				t.Fatal(err)
			}
			if text := string(content); strings.Contains(text, "hunter2") || !strings.Contains(text, one.kept) {
				t.Errorf("it became %s", text)
			}
		})
	}
}

func TestSanitizeKeepsTheFieldAndWhatItIsNotAbout(t *testing.T) {
	now := time.Now()
	for _, one := range []any{7, int64(7), uint8(1), 1.5, true, nil, now, time.Second, mood("fine"), "alloc_mfrggzdfmztwq2lknnwg23tpob", slog.LevelInfo} {
		if got := secret.Sanitize("count", one); got != one {
			t.Errorf("%v became %v", one, got)
		}
	}
	for _, one := range []any{12345, "hunter2", []string{"a"}, map[string]any{"a": 1}, errors.New("x")} {
		if got := secret.Sanitize("password", one); got != secret.Redacted {
			t.Errorf("a password of %v became %v", one, got)
		}
	}
	for _, one := range []any{nil, "", true, false} {
		if got := secret.Sanitize("password", one); got != one {
			t.Errorf("%v became %v", one, got)
		}
	}
	details := secret.Details(map[string]any{"keys": []string{"a"}, "token": "x", "count": 3})
	if want := map[string]any{"keys": []string{"a"}, "token": secret.Redacted, "count": 3}; !reflect.DeepEqual(details, want) {
		t.Errorf("the details are %v", details)
	}
	if secret.Details(nil) != nil {
		t.Error("no details became some")
	}
}

func TestSanitizeDoesNotTouchItsInput(t *testing.T) {
	value := map[string]any{
		"password": "hunter2", "list": []string{"token=hunter2"}, "bytes": []byte("token=hunter2"), "raw": json.RawMessage(`{"token":"hunter2"}`),
		"struct": &inner{Token: "hunter2"}, "inner": map[string]any{"token": "hunter2"},
	}
	before := fmt.Sprintf("%#v %+v", value, *value["struct"].(*inner))
	secret.Sanitize("value", value)
	if after := fmt.Sprintf("%#v %+v", value, *value["struct"].(*inner)); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

func TestSanitizeIsBounded(t *testing.T) {
	huge := strings.Repeat("word ", 1<<20) + "password=hunter2"
	if clean := secret.Text(huge); len(clean) > 70<<10 || !strings.Contains(clean, "bytes cut]") {
		t.Errorf("%d bytes became %d", len(huge), len(clean))
	}
	// A cut leaves no piece of a token that is too short to be known.
	token := secret.PersonalTokenPrefix + strings.Repeat("k", 40)
	for shift := range 60 {
		text := strings.Repeat("x", 64<<10-30-shift) + " " + token + strings.Repeat(" y", 1000)
		if clean := secret.Text(text); strings.Contains(clean, "gpuaas_") {
			t.Fatalf("with %d bytes more before it the token is in …%s", shift, clean[len(clean)-80:])
		}
	}
	many := make([]map[string]any, 100_000)
	for i := range many {
		many[i] = map[string]any{"password": "hunter2", "text": strings.Repeat("x", 100)}
	}
	content, err := json.Marshal(secret.Sanitize("value", many))
	if err != nil || len(content) > 1<<20 || strings.Contains(string(content), "hunter2") {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	// Texts that look like secrets over and over take time in proportion to their length.
	for _, piece := range []string{"eyJ", "eyJ.", "=", "password=", `{"password":`, "://a:", "-----BEGIN PRIVATE ", `\"`, "token:[", "a=%22", "ZXlK", "Bearer ", "--token ", "%3A%2F%2F", "x:y@", "code: ", "cookie: missing ", "--", "pi_", "ZXlK-", "eyJ-", "token: a ", "<password>true</", "basic ", "$2a$", "a@tcp:"} {
		text := strings.Repeat(piece, 64<<10/len(piece))
		began := time.Now()
		secret.Text(text)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%d bytes of %q take %s", len(text), piece, took)
		}
	}
}

// FuzzText plants a token of ours in any text, with a blank before and after it, and never finds it again.
func FuzzText(f *testing.F) {
	for _, one := range corpus {
		f.Add(one.text, one.text)
	}
	for _, text := range innocent {
		f.Add(text, text)
	}
	token := secret.PersonalTokenPrefix + "0123456789abcdefghijKLMNOP"
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + " " + token + " " + after
		clean := secret.Text(text)
		if strings.Contains(clean, token) {
			t.Errorf("%q became %q", text, clean)
		}
		if utf8.ValidString(text) && !utf8.ValidString(clean) && len(text) < 60<<10 {
			t.Errorf("%q became what is no text: %q", text, clean)
		}
		plain := before + after
		if clean := secret.Text(plain); len(clean) > len(plain)+len(plain)*len(secret.Redacted)+32 {
			t.Errorf("%d bytes became %d", len(plain), len(clean))
		}
		secret.Name(before)
	})
}

// FuzzSanitize gives it any JSON, which stays JSON, without the passwords in it.
func FuzzSanitize(f *testing.F) {
	f.Add([]byte(`{"a":{"password":"x","b":[1,2,{"token":"y"}]}}`))
	f.Add([]byte(`[null,true,1e400,"eyJ"]`))
	f.Add([]byte(`{"a":`))
	f.Fuzz(func(t *testing.T, content []byte) {
		var value any
		if json.Unmarshal(content, &value) != nil {
			value = string(content)
		}
		planted := map[string]any{"value": value, "raw": json.RawMessage(content), "inner": map[string]any{"password": "hunter2-planted"}, "text": errors.New(string(content))}
		clean, err := json.Marshal(secret.Sanitize("value", planted))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(clean), "hunter2-planted") && !strings.Contains(string(content), "hunter2-planted") {
			t.Errorf("%s became %s", content, clean)
		}
	})
}

// BenchmarkText is the cost of the texts that logs are made of, a byte and a text.
func BenchmarkText(b *testing.B) {
	for _, one := range []struct{ name, text string }{
		{"id", "alloc_mfrggzdfmztwq2lknnwg23tpob"},
		{"sentence", "the node did not take up the task within 30 seconds and was given up; another one is being claimed for the allocation"},
		{"stack", strings.Repeat("goroutine 1 [running]:\nmain.main()\n\t/src/internal/process/main.go:12 +0x1d\n", 40)},
		{"secret", "dial postgres://gpuaas:hunter2@db:5432/x?sslmode=require: connection refused"},
	} {
		b.Run(one.name, func(b *testing.B) {
			b.SetBytes(int64(len(one.text)))
			b.ReportAllocs()
			for b.Loop() {
				secret.Text(one.text)
			}
		})
	}
	b.Run("details", func(b *testing.B) {
		b.ReportAllocs()
		details := map[string]any{"sku": "h100-8x", "node_id": "node_mfrggzdfmztwq2lknnwg23tpob", "generation": 3, "reason": "fan replacement"}
		for b.Loop() {
			secret.Details(details)
		}
	})
}

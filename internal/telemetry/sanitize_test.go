package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestSanitizeCutsSecretsOutOfTexts(t *testing.T) {
	corpus := map[string]string{
		"jwt":           "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
		"unsigned jwt":  "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
		"pem":           "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
		"cut pem":       "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
		"bearer":        "Bearer abcdef123456",
		"basic":         "basic dXNlcjpwYXNz",
		"stripe secret": "sk_live_" + "51Habcdefghijkl",
		"restricted":    "rk_test_" + "51Habcdefghijkl",
		"webhook":       "whsec_" + "abcdefghijkl",
		"customer":      "cus_NffrFeUfNV2Hib",
		"terminal":      "gpuaas_term_abcdefgh12345678",
		"api":           "gpuaas_api_abcdefgh12345678",
		"enrol":         EnrolTokenPrefix + "abcdefgh12345678",
		"query":         "token=abcdefgh12345678",
	}
	for name, secret := range corpus {
		t.Run(name, func(t *testing.T) {
			text, _ := Sanitize("note", "before "+secret+" after").(string)
			if strings.Contains(text, secret) || !strings.Contains(text, redacted) || !strings.HasPrefix(text, "before ") {
				t.Errorf("%q became %q", secret, text)
			}
		})
	}
	if url, _ := Sanitize("url", "postgres://gpuaas:hunter2@db:5432/x").(string); strings.Contains(url, "hunter2") {
		t.Errorf("the password stays in %q", url)
	}
}

func TestSanitizeKeepsWhatIsNoSecret(t *testing.T) {
	for _, text := range []string{
		"alloc_mfrggzdfmztwq2lknnwg23tpob", "the token has expired", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE4m2jXk5n0VbXJc8d6q0t1e2r3y4u5i6o7p8a9s0dfg",
		"billing.window_seconds", "2026-01-05T09:30:00.000Z", "cursor=abc", "a bearer of news",
	} {
		if got := Sanitize("note", text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := Sanitize("count", 7); got != 7 {
		t.Errorf("7 became %v", got)
	}
}

func TestSanitizeRedactsByNameAtAnyDepth(t *testing.T) {
	for _, key := range []string{"password", "Password_Hash", "access_token", "refresh_token", "id_token", "ssh_private_key",
		"ssh_private_key_pem", "stripe_customer_id", "payment_reference", "Authorization", "terminal_token", "api-token"} {
		if got := Sanitize(key, 12345); got != redacted {
			t.Errorf("%s is %v", key, got)
		}
	}
	deep := Sanitize("request", map[string]any{"user": map[string]any{"password": "hunter2"}, "list": []any{map[string]any{"id_token": 1}}})
	text, err := json.Marshal(deep)
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Count(string(text), redacted) != 2 {
		t.Errorf("%s, %v", text, err)
	}
}

func TestEveryLogLineIsSanitizedAndCorrelated(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo).With("password", "hunter1").WithGroup("http")
	ctx := WithCorrelation(context.Background(), "corr-1")
	log.InfoContext(ctx, "saw Bearer abcdef123456", "headers", map[string][]string{"Authorization": {"x"}}, slog.Group("inner", "refresh_token", "hunter2"),
		"error", errors.New("with sk_live_"+"51Habcdefghijkl"))
	line := out.String()
	for _, secret := range []string{"hunter1", "hunter2", "abcdef123456", "51Habc", `"x"`} {
		if strings.Contains(line, secret) {
			t.Errorf("%s is in %s", secret, line)
		}
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["password"] != redacted || !strings.Contains(line, `"correlation_id":"corr-1"`) {
		t.Errorf("the line is %s", line)
	}
}

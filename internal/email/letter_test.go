package email_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/email"
	letters "github.com/gpuaas/gpuaas/internal/email"
)

var update = flag.Bool("update", false, "write the letters as they are now")

// losing is what two allocations lose, of three.
const losing = `"allocation_count":3,"allocations":[
	{"allocation_id":"alloc_a","project_id":"proj_a","user_id":"user_a","name":"training","sku":"h100-8x",
	 "message":"training (h100-8x): all files, programs and logins on its node are deleted at 2026-01-05 10:30:00 UTC."},
	{"allocation_id":"alloc_b","project_id":"proj_a","user_id":"user_a","name":"<b>x</b>","sku":"h100-8x",
	 "message":"<b>x</b> (h100-8x): all files, programs and logins on its node are deleted at 2026-01-05 10:30:00 UTC."}]`

// occasions is one of each kind, and of each of its shapes.
var occasions = map[string]struct {
	kind    email.Kind
	payload string
}{
	"low_balance_warning": {"billing.low_balance_warning", `{"currency":"usd","available_micros":12345678,"rate_micros_per_hour":3600000,
		"message":"The balance is down to 12.34 usd and is used up at 2026-01-05 12:55:45 UTC if nothing changes. Add funds to keep what runs."}`},
	"auto_release_pending": {"billing.auto_release_pending", `{"currency":"usd","available_micros":3600000,"rate_micros_per_hour":3600000,"deadline":"2026-01-05T10:30:00Z",
		"message":"The balance of 3.60 usd is used up at 2026-01-05 10:30:00 UTC. Then 3 allocations are released, and everything on the nodes is deleted and cannot be brought back. Add funds before then to keep what runs.",` + losing + `}`},
	"balance_depleted": {"billing.balance_depleted", `{"currency":"usd","available_micros":0,"message":"The balance was used up at 2026-01-05 10:30:00 UTC. 3 allocations are being released, and everything on the nodes is being deleted. Nothing is charged for the time after.",` + losing + `}`},
	"budget_warning": {"billing.budget_warning", `{"currency":"usd","amount_micros":500000000,"spent_micros":400000000,"warning_percent":80,
		"message":"The project has spent 400.00 usd of its budget of 500.00 usd.","allocations":[]}`},
	"budget_exhausted": {"billing.budget_exhausted", `{"currency":"usd","amount_micros":500000000,"spent_micros":500000000,
		"message":"The project's budget of 500.00 usd was used up at 2026-01-05 10:30:00 UTC. What runs in it is being released, and everything on the nodes is being deleted.",` + losing + `}`},
	"balance_credited":         {"payments.balance_credited", `{"payment_id":"pay_a","method":"checkout","currency":"usd","amount_micros":25000000}`},
	"balance_credited_auto":    {"payments.balance_credited", `{"payment_id":"pay_a","method":"auto_topup","currency":"usd","amount_micros":25000000}`},
	"refund_settled":           {"payments.refund_settled", `{"refund_id":"ref_a","payment_id":"pay_a","currency":"usd","amount_micros":10000000,"reason":""}`},
	"deposit_failed":           {"payments.deposit_failed", `{"payment_id":"pay_a","method":"checkout","currency":"usd","amount_micros":25000000,"state":"failed","reason":"Your card was declined."}`},
	"deposit_expired":          {"payments.deposit_failed", `{"payment_id":"pay_a","method":"checkout","currency":"usd","amount_micros":25000000,"state":"expired","reason":""}`},
	"deposit_held":             {"payments.deposit_failed", `{"payment_id":"pay_a","method":"checkout","currency":"usd","amount_micros":25000000,"state":"held","reason":"another amount"}`},
	"deposit_failed_auto":      {"payments.deposit_failed", `{"payment_id":"pay_a","method":"auto_topup","currency":"usd","amount_micros":25000000,"state":"failed","reason":"Your card was declined."}`},
	"refund_failed":            {"payments.refund_failed", `{"refund_id":"ref_a","payment_id":"pay_a","currency":"usd","amount_micros":10000000,"reason":"expired_or_canceled_card"}`},
	"auto_topup_paused":        {"payments.auto_topup_paused", `{"payment_id":"pay_a","currency":"usd","amount_micros":25000000,"failures":3,"reason":"card_declined","message":"The saved card could not be charged 25.00 usd (card_declined). It is not charged by itself any more until the automatic top-up is set again."}`},
	"dispute_opened":           {"payments.dispute_opened", `{"dispute_id":"disp_a","payment_id":"pay_a","currency":"usd","amount_micros":25000000,"state":"open","reason":"fraudulent","evidence_due_at":"2026-01-12T23:59:59Z"}`},
	"dispute_won":              {"payments.dispute_closed", `{"dispute_id":"disp_a","payment_id":"pay_a","currency":"usd","amount_micros":25000000,"state":"won","reason":"fraudulent"}`},
	"dispute_lost":             {"payments.dispute_closed", `{"dispute_id":"disp_a","payment_id":"pay_a","currency":"usd","amount_micros":25000000,"state":"lost","reason":"fraudulent"}`},
	"provisioning_failed":      {"provisioning.failed", `{"allocation_id":"alloc_a","sku":"h100-8x","state":"failed","failure":{"code":"node_offline","message":"The node is offline."}}`},
	"release_failed":           {"provisioning.release_failed", `{"allocation_id":"alloc_a","sku":"h100-8x","state":"release_failed","failure":{"code":"wipe_failed","message":"The disk could not be wiped."}}`},
	"webhook_endpoint_failing": {"webhooks.endpoint_disabled", `{"webhook_id":"hook_a","because":"failing","failures":20,"failing_since":"2026-01-02T09:30:00Z"}`},
	"webhook_endpoint_gone":    {"webhooks.endpoint_disabled", `{"webhook_id":"hook_a","because":"gone","failures":1,"failing_since":"2026-01-05T09:30:00Z"}`},
	"invitation":               {email.InvitationCreated, `{"invitation_id":"inv_a","role":"member","expires_at":"2026-01-12T09:30:00Z"}`},
}

func write(t *testing.T, of letters.Occasion) letters.Letter {
	t.Helper()
	letter, err := letters.Write(of)
	if err != nil {
		t.Fatal(err)
	}
	return letter
}

// Every letter is kept as it reads, in text and in HTML; -update writes them anew.
func TestLettersReadAsTheyAreKept(t *testing.T) {
	covered := map[email.Kind]bool{}
	for name, of := range occasions {
		covered[of.kind] = true
		letter := write(t, letters.Occasion{Kind: of.kind, Payload: json.RawMessage(of.payload), Tenant: "Acme & Söhne", Console: "https://gpuaas.example/"})
		golden := filepath.Join("testdata", name+".golden")
		got := fmt.Sprintf("Subject: %s\n\n%s\n=====\n%s", letter.Subject, letter.Text, letter.HTML)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s reads\n%s\nand is kept as\n%s", name, got, want)
		}
	}
	for _, kind := range email.Kinds() {
		if !covered[kind] {
			t.Errorf("no letter about %s is kept", kind)
		}
	}
}

// Names and reasons that people, banks and programs wrote begin no header and no line of their own, and no element.
func TestWhatPeopleWroteStaysWithinItsLine(t *testing.T) {
	const evil = "Acme\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>\u202e\x00"
	for name, of := range occasions {
		payload := map[string]any{}
		if err := json.Unmarshal([]byte(of.payload), &payload); err != nil {
			t.Fatal(err)
		}
		for field, value := range payload {
			if _, text := value.(string); text && !strings.HasSuffix(field, "_at") && field != "deadline" && field != "failing_since" {
				payload[field] = evil
			}
		}
		altered, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		letter := write(t, letters.Occasion{Kind: of.kind, Payload: altered, Tenant: evil, Project: evil})
		if strings.ContainsAny(letter.Subject, "\r\n\x00\u202e") {
			t.Errorf("%s: the subject is %q", name, letter.Subject)
		}
		if strings.Contains(letter.Text, "\nBcc") || strings.ContainsAny(letter.Text, "\r\x00\u202e") {
			t.Errorf("%s: the text is %q", name, letter.Text)
		}
		if strings.Contains(letter.HTML, "<script") || strings.ContainsAny(letter.HTML, "\x00\u202e") {
			t.Errorf("%s: the page is %q", name, letter.HTML)
		}
	}
}

func TestALetterAboutNothingIsNone(t *testing.T) {
	for _, of := range []letters.Occasion{
		{Kind: "billing.usage_recorded", Payload: json.RawMessage(`{}`)}, {Kind: "billing.low_balance_warning", Payload: json.RawMessage(`[]`)}, {Kind: email.InvitationCreated},
	} {
		if letter, err := letters.Write(of); err == nil {
			t.Errorf("%+v is written as %q", of, letter.Subject)
		}
	}
}

func TestALongNameDoesNotFillALetter(t *testing.T) {
	letter := write(t, letters.Occasion{Kind: email.InvitationCreated, Payload: json.RawMessage(`{"role":"member"}`), Tenant: strings.Repeat("ä", 100_000)})
	if len([]rune(letter.Subject)) > 160 || len(letter.Text) > 20_000 {
		t.Errorf("the subject has %d bytes, the text %d", len(letter.Subject), len(letter.Text))
	}
}

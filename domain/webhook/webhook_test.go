package webhook_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/webhook"
)

func TestOnlyPublicAddressesAreAsked(t *testing.T) {
	for address, fine := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "100.128.0.0": true, "198.20.0.1": true,
		"2606:4700:4700::1111": true, "2a00:1450::1": true, "2001:4860::8888": true, "::ffff:8.8.8.8": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "127.0.0.1": false, "127.8.8.8": false, "172.16.0.1": false,
		"172.31.255.255": false, "192.168.1.1": false, "169.254.169.254": false, "169.254.0.1": false, "100.64.0.1": false, "100.127.255.255": false,
		"192.0.0.170": false, "192.0.2.1": false, "192.88.99.1": false, "198.18.0.1": false, "198.51.100.7": false, "203.0.113.7": false,
		"224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:a9fe:a9fe": false,
		"::127.0.0.1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001::1": false, "2001:db8::1": false,
		"fe80::1": false, "fe80::1%eth0": false, "2606:4700:4700::1111%eth0": false, "fec0::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false,
		"100::1": false, "3fff::1": false, "5f00::1": false,
	} {
		if err := (webhook.Guard{}).Check(netip.MustParseAddr(address)); (err == nil) != fine {
			t.Errorf("%s: %v", address, err)
		}
	}
	if (webhook.Guard{}).Check(netip.Addr{}) == nil {
		t.Error("no address at all may be asked")
	}
}

func TestANetworkCanBeAllowed(t *testing.T) {
	networks, err := webhook.ParseNetworks([]string{"10.1.0.0/16", " fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	guard := webhook.Guard{Allowed: networks}
	for address, fine := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00::1": true, "10.2.0.1": false, "127.0.0.1": false, "8.8.8.8": true} {
		if err := guard.Check(netip.MustParseAddr(address)); (err == nil) != fine {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := webhook.ParseNetworks([]string{"10.0.0.1"}); err == nil {
		t.Error("an address is taken for a network")
	}
}

func TestAddressesOfEndpoints(t *testing.T) {
	for text, fine := range map[string]bool{
		"https://example.com/hook": true, "https://example.com:8443/hook?key=1": true, "https://[2606:4700::1]/": true, "https://example.com": true,
		"http://example.com/hook": false, "ftp://example.com": false, "https:///hook": false, "https:example.com": false, "example.com/hook": false, "": false,
		"https://user:pass@example.com/": false, "https://example.com/#part": false, "https://exa mple.com/": false, "https://example.com/a b": false,
		"https://example.com/\x7f": false, "https://example.com/" + strings.Repeat("x", webhook.LongestURL): false,
	} {
		if err := webhook.CheckURL(text, false); (err == nil) != fine {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	if err := webhook.CheckURL("http://example.com/hook", true); err != nil {
		t.Errorf("http that is allowed: %v", err)
	}
}

// What is told is an id or nothing: neither amounts nor reasons nor people.
func TestABodyIsThin(t *testing.T) {
	payload := `{"tenant_id":"tenant_a","account_id":"acct_a","user_id":"user_a","reason":"for Ada Lovelace","amount_micros":9007199254740993,"allocation_id":7,
		"project_id":"","payment_id":"pay_a"}`
	at := time.Date(2026, 1, 5, 10, 30, 0, 7e6, time.FixedZone("", 3600))
	body, err := webhook.Body(event.Envelope{
		EventID: "0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10", EventType: event.PaymentsBalanceCredited, OccurredAt: at, CorrelationID: "c", Payload: json.RawMessage(payload),
	})
	want := `{"type":"payments.balance_credited","id":"0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10","timestamp":"2026-01-05T09:30:00.007Z",` +
		`"data":{"account_id":"acct_a","payment_id":"pay_a","tenant_id":"tenant_a"}}`
	if err != nil || string(body) != want {
		t.Errorf("the body is %s, %v", body, err)
	}
	if _, err := webhook.Body(event.Envelope{Payload: json.RawMessage(`[]`)}); err == nil {
		t.Error("a payload that is no object has a body")
	}
}

func TestNobodyHearsOfWhatIsForPrograms(t *testing.T) {
	types := webhook.EventTypes()
	if slices.Contains(types, event.BillingUsageRecorded) || !slices.Contains(types, event.ProvisioningActive) || !slices.IsSorted(types) {
		t.Errorf("endpoints can ask for %v", types)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	retry := webhook.Retry{Attempts: 6, Initial: time.Second, Maximum: 5 * time.Second, Window: time.Minute}
	for attempt, want := range map[int64]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 5: 5 * time.Second} {
		if pause, again := retry.Next(attempt, 0, 0); !again || pause != want {
			t.Errorf("after attempt %d comes a pause of %s, %t", attempt, pause, again)
		}
	}
	for name, test := range map[string]struct {
		attempt int64
		elapsed time.Duration
	}{"the last attempt": {6, 0}, "one attempt too many": {7, 0}, "the end of the window": {2, 59 * time.Second}} {
		if pause, again := retry.Next(test.attempt, test.elapsed, 0); again {
			t.Errorf("%s is followed by another after %s", name, pause)
		}
	}
	if pause, _ := retry.Next(1, 0, 1); pause != 1200*time.Millisecond {
		t.Errorf("the widest spread makes %s of a second", pause)
	}
	long := webhook.Retry{Attempts: 1000, Initial: time.Hour, Maximum: 1 << 61, Window: 1<<63 - 1}
	if pause, _ := long.Next(500, 0, 0); pause < 0 {
		t.Errorf("a pause overflows to %s", pause)
	}
}

func TestPatienceEndsByNumberAndTime(t *testing.T) {
	now := time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC)
	patience := webhook.Patience{Failures: 3, For: time.Hour}
	for name, test := range map[string]struct {
		failures int64
		since    time.Duration
		ended    bool
	}{
		"few and long": {2, 2 * time.Hour, false}, "many and short": {9, time.Minute, false}, "exactly": {3, time.Hour, true}, "many and long": {9, 2 * time.Hour, true},
	} {
		if ended := patience.Ended(test.failures, now.Add(-test.since), now); ended != test.ended {
			t.Errorf("%s: %t", name, ended)
		}
	}
}

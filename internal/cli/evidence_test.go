package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/evidence/evidencetest"
	"github.com/gpuaas/gpuaas/internal/evidence"
)

// proof is a sealed bundle and the key that it was sealed with, in files.
type proof struct {
	t                *testing.T
	directory        string
	sealed           []byte
	envelope         map[string]any
	publicKey, other string
}

func newProof(t *testing.T) proof {
	t.Helper()
	p := proof{t: t, directory: t.TempDir()}
	keys := func(name string) (*evidence.Keys, string) {
		private, err := evidence.Generate()
		if err != nil {
			t.Fatal(err)
		}
		path := p.write(name+".pem", private)
		loaded, err := evidence.LoadKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		published, err := loaded.Published()
		if err != nil || len(published) != 1 || !published[0].Current {
			t.Fatalf("published are %+v, %v", published, err)
		}
		return loaded, p.write(name+".pub.pem", []byte(published[0].PEM))
	}
	signing, public := keys("signing")
	_, p.other = keys("other")
	p.publicKey = public
	sealed, err := signing.Seal(t.Context(), evidencetest.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	if p.sealed, err = json.Marshal(sealed); err != nil || json.Unmarshal(p.sealed, &p.envelope) != nil {
		t.Fatal(err)
	}
	return p
}

func (p proof) write(name string, text []byte) string {
	p.t.Helper()
	path := filepath.Join(p.directory, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p proof) verify(file []byte, publicKey string) (int, string) {
	p.t.Helper()
	var out, errs bytes.Buffer
	code := Main(p.t.Context(), Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(string) string { return "" }},
		[]string{"evidence", "verify", p.write("bundle.json", file), "--public-key", publicKey})
	return code, out.String() + errs.String()
}

// written is an envelope as the platform writes it: its fields in their order, and those that it has not behind them.
func (p proof) written(envelope map[string]any) []byte {
	p.t.Helper()
	return []byte(p.object(envelope, "payloadType", "payload", "signatures", "keyid", "sig"))
}

func (p proof) object(value any, order ...string) string {
	p.t.Helper()
	switch typed := value.(type) {
	case map[string]any:
		var fields []string
		for _, name := range order {
			if held, there := typed[name]; there {
				fields = append(fields, fmt.Sprintf("%q:%s", name, p.object(held, order...)))
			}
		}
		return "{" + strings.Join(fields, ",") + "}"
	case []any:
		items := make([]string, len(typed))
		for i, held := range typed {
			items[i] = p.object(held, order...)
		}
		return "[" + strings.Join(items, ",") + "]"
	default:
		text, err := json.Marshal(value)
		if err != nil {
			p.t.Fatal(err)
		}
		return string(text)
	}
}

// flips answers a copy of a JSON value for each of its leaves and for each of its fields, with that one changed or gone.
func flips(value any) map[string]any {
	found := map[string]any{}
	switch typed := value.(type) {
	case map[string]any:
		for name, held := range typed {
			with := func(change func(map[string]any)) map[string]any {
				copied := map[string]any{}
				for k, v := range typed {
					copied[k] = v
				}
				change(copied)
				return copied
			}
			found[name+" gone"] = with(func(m map[string]any) { delete(m, name) })
			for at, flipped := range flips(held) {
				found[name+"."+at] = with(func(m map[string]any) { m[name] = flipped })
			}
		}
	case []any:
		for i, held := range typed {
			found[fmt.Sprintf("%d gone", i)] = append(append([]any{}, typed[:i]...), typed[i+1:]...)
			for at, flipped := range flips(held) {
				copied := append([]any{}, typed...)
				copied[i] = flipped
				found[fmt.Sprintf("%d.%s", i, at)] = copied
			}
		}
	case string:
		found["longer"] = typed + "x"
		if typed != "" {
			flipped := []byte(typed)
			flipped[len(flipped)/2] ^= 1
			found["flipped"] = string(flipped)
		}
	case float64:
		found["more"] = typed + 1
	case bool:
		found["the other"] = !typed
	}
	return found
}

func TestEveryChangeOfABundleIsNoticed(t *testing.T) {
	p := newProof(t)
	if string(p.written(p.envelope)) != string(p.sealed) {
		t.Fatalf("the envelope %s is written as %s", p.sealed, p.written(p.envelope))
	}
	code, said := p.verify(p.sealed, p.publicKey)
	if code != ExitOK || !strings.Contains(said, "holds  the signature") || strings.Count(said, "holds  ") != 8 || !strings.Contains(said, "0.15 usd") {
		t.Fatalf("the bundle itself: %d %s", code, said)
	}
	if code, said = p.verify(p.sealed, p.other); code == ExitOK || !strings.Contains(said, "not among the public keys") {
		t.Errorf("another key: %d %s", code, said)
	}
	changes := 0
	for at, changed := range flips(p.envelope) {
		changes++
		if code, said := p.verify(p.written(changed.(map[string]any)), p.publicKey); code == ExitOK {
			t.Errorf("the envelope's %s: %s", at, said)
		}
	}
	payload, err := base64.StdEncoding.DecodeString(p.envelope["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	var bundle map[string]any
	if err := json.Unmarshal(payload, &bundle); err != nil {
		t.Fatal(err)
	}
	for at, changed := range flips(bundle) {
		changes++
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		envelope := map[string]any{"payloadType": p.envelope["payloadType"], "payload": base64.StdEncoding.EncodeToString(text), "signatures": p.envelope["signatures"]}
		if code, said := p.verify(p.written(envelope), p.publicKey); code == ExitOK {
			t.Errorf("the bundle's %s: %s", at, said)
		}
	}
	if changes < 200 {
		t.Errorf("only %d changes were tried", changes)
	}
	twice := map[string]any{"payloadType": p.envelope["payloadType"], "payload": p.envelope["payload"], "signatures": append(p.envelope["signatures"].([]any), p.envelope["signatures"].([]any)...)}
	if code, _ := p.verify(p.written(twice), p.publicKey); code == ExitOK {
		t.Error("a second signature was taken")
	}
}

// A file of which one byte is another one, or is there twice, or is not there, is not the file that was sealed; its last line feed
// alone may be missing, as editors and shells take it.
func TestEveryByteOfABundleCounts(t *testing.T) {
	p := newProof(t)
	file := append(bytes.Clone(p.sealed), '\n')
	pem, err := os.ReadFile(p.publicKey)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := evidence.ParsePublicKeys(pem)
	if err != nil {
		t.Fatal(err)
	}
	verifies := func(file []byte) bool {
		_, _, err := evidence.Open(t.Context(), file, trusted)
		return err == nil
	}
	if !verifies(file) || !verifies(p.sealed) {
		t.Fatal("the bundle itself does not verify")
	}
	for at := range file {
		masks := []byte{0x01, 0x20, 0x80}
		if at == len(file)-1 {
			masks = masks[:0]
			for mask := byte(1); mask != 0; mask++ {
				masks = append(masks, mask)
			}
		}
		for _, mask := range masks {
			changed := bytes.Clone(file)
			changed[at] ^= mask
			if verifies(changed) {
				t.Errorf("byte %d, %q, as %q verifies", at, file[at], changed[at])
			}
		}
		if verifies(slices.Insert(bytes.Clone(file), at, file[at])) {
			t.Errorf("byte %d, %q, twice verifies", at, file[at])
		}
		if last := at == len(file)-1; verifies(slices.Delete(bytes.Clone(file), at, at+1)) != last {
			t.Errorf("without byte %d, %q, it verifies: %v", at, file[at], !last)
		}
	}
	for name, changed := range map[string][]byte{
		"a name in capital letters": bytes.Replace(file, []byte(`"keyid"`), []byte(`"KeyID"`), 1),
		"white space":               bytes.Replace(file, []byte(`,`), []byte(`, `), 1),
		"a name twice":              bytes.Replace(file, []byte(`{"payloadType"`), []byte(`{"payload":"","payloadType"`), 1),
		"two line feeds":            append(bytes.Clone(file), '\n'),
	} {
		if code, said := p.verify(changed, p.publicKey); code == ExitOK {
			t.Errorf("%s verifies: %s", name, said)
		}
	}
}

func TestVerifyingNeedsAKeyOfOnesOwn(t *testing.T) {
	p := newProof(t)
	bundle := p.write("bundle.json", p.sealed)
	for name, arguments := range map[string][]string{
		"no key":        {"evidence", "verify", bundle},
		"no such key":   {"evidence", "verify", bundle, "--public-key", filepath.Join(p.directory, "absent.pem")},
		"a private key": {"evidence", "verify", bundle, "--public-key", filepath.Join(p.directory, "signing.pem")},
		"no key in it":  {"evidence", "verify", bundle, "--public-key", bundle},
		"no bundle":     {"evidence", "verify", filepath.Join(p.directory, "absent.json"), "--public-key", p.publicKey},
	} {
		var out, errs bytes.Buffer
		if code := Main(t.Context(), Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(string) string { return "" }}, arguments); code != ExitUsage {
			t.Errorf("%s: exit code %d, %s", name, code, errs.String())
		}
	}
}

// A key that was replaced stays published, so that what it signed can be verified.
func TestAnOlderKeyStaysPublished(t *testing.T) {
	p := newProof(t)
	fresh, err := evidence.Generate()
	if err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(p.publicKey)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := evidence.LoadKeys(p.write("rotated.pem", append(fresh, older...)))
	if err != nil {
		t.Fatal(err)
	}
	published, err := rotated.Published()
	if err != nil || len(published) != 2 || !published[0].Current || published[1].Current || published[1].PEM != string(older) {
		t.Fatalf("published are %+v, %v", published, err)
	}
	all := p.write("all.pem", []byte(published[0].PEM+published[1].PEM))
	if code, said := p.verify(p.sealed, all); code != ExitOK {
		t.Errorf("what the older key signed: %d %s", code, said)
	}
	if _, err := evidence.LoadKeys(p.write("backwards.pem", append(older, fresh...))); err == nil {
		t.Error("a public key signs")
	}
	if _, err := evidence.LoadKeys(p.write("empty.pem", []byte("nothing"))); err == nil {
		t.Error("a file without a key signs")
	}
}

package event_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gpuaas/gpuaas/domain/event"
)

func TestALetterHasASubjectWhateverItIsAbout(t *testing.T) {
	for about, want := range map[string]string{
		"billing.usage_recorded": "dlq.relay.billing.usage_recorded",
		"billing.*":              "dlq.relay.billing._",
		"billing.>":              "dlq.relay.billing._",
		"":                       "dlq.relay._",
		"a..b c":                 "dlq.relay.a._.b_c",
	} {
		if got := event.LetterSubject("relay", about); got != want {
			t.Errorf("a letter about %q has the subject %q, not %q", about, got, want)
		}
	}
}

func TestALetterCarriesWhatFits(t *testing.T) {
	for name, test := range map[string]struct {
		message     string
		event, body bool
	}{
		"JSON":                     {`{"event_id":"x"}`, true, false},
		"bytes":                    {"\xff\xfe", false, true},
		"JSON that jsonb refuses":  {`{"name":"\\u0000"}`, false, true},
		"JSON of broken UTF-8":     {"{\"name\":\"\xc3\"}", false, true},
		"more than a letter takes": {`"` + strings.Repeat("x", event.MostLetterBytes) + `"`, false, false},
	} {
		var letter event.Letter
		letter.Carry([]byte(test.message))
		if (letter.Event != nil) != test.event || (letter.Body != nil) != test.body {
			t.Errorf("%s: the letter is %+v", name, letter)
		}
	}
}

func TestAReasonIsTextWhereverItIsCut(t *testing.T) {
	for name, text := range map[string]string{
		"short": "it is no event", "a half character": "a" + strings.Repeat("é", 600), "a half character elsewhere": strings.Repeat("é", 600),
		"bytes": "\xff\xfe it is no event", "U+0000": "it is \x00 no event",
	} {
		got := event.Readable(text)
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > 1010 || len(text) > 1000 != strings.HasSuffix(got, " …") {
			t.Errorf("%s: %q", name, got)
		}
		if len(text) < 100 && !strings.HasSuffix(got, "no event") {
			t.Errorf("%s: %q lost something", name, got)
		}
	}
}

func TestEveryStreamTakesItsOwnSubjects(t *testing.T) {
	for _, kind := range event.All() {
		prefix := strings.TrimSuffix(event.SubjectsOf(kind.Stream()), ">")
		if !strings.HasPrefix(string(kind), prefix) {
			t.Errorf("%s does not belong to its stream %s", kind, kind.Stream())
		}
	}
}

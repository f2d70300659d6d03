package main

import (
	"strings"
	"testing"
)

func TestEveryTestIsCountedOnceAndWhatFailedIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		events                  []string
		passed, failed, skipped int
		shown, hidden           string
	}{
		"a package of each": {
			events: []string{
				`{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}`, `{"Action":"pass","Package":"p","Test":"TestA/sub","Elapsed":1}`,
				`{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}`, `{"Action":"output","Package":"p","Test":"TestB","Output":"why it failed\n"}`,
				`{"Action":"fail","Package":"p","Test":"TestB","Elapsed":2}`, `{"Action":"skip","Package":"p","Test":"TestC"}`, `{"Action":"fail","Package":"p","Elapsed":3}`,
			},
			passed: 2, failed: 1, skipped: 1, shown: "why it failed", hidden: "quiet",
		},
		"a package whose process died": {
			events: []string{`{"Action":"output","Package":"p","Output":"panic: gone\n"}`, `{"Action":"fail","Package":"p","Elapsed":3}`},
			failed: 1, shown: "panic: gone",
		},
		"a package that does not build": {
			events: []string{`{"Action":"build-output","Output":"undefined: x\n"}`, `{"Action":"build-fail","ImportPath":"p"}`, `{"Action":"fail","Package":"p"}`},
			failed: 1, shown: "undefined: x",
		},
		"a slow package": {
			events: []string{
				`{"Action":"pass","Package":"p","Test":"TestSlow","Elapsed":70}`, `{"Action":"pass","Package":"p","Test":"TestSlower","Elapsed":80}`,
				`{"Action":"pass","Package":"p","Test":"TestSlow/part","Elapsed":90}`, `{"Action":"pass","Package":"p","Elapsed":150}`,
			},
			passed: 3, shown: "of which TestSlower 80s TestSlow 70s\n", hidden: "part",
		},
		"a message of the tools": {events: []string{"go: downloading something"}, shown: "go: downloading something"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			counted := newTally(&out)
			if err := counted.read(strings.NewReader(strings.Join(c.events, "\n"))); err != nil {
				t.Fatal(err)
			}
			if counted.passed != c.passed || counted.failed != c.failed || counted.skipped != c.skipped {
				t.Errorf("%d passed, %d failed, %d skipped", counted.passed, counted.failed, counted.skipped)
			}
			if !strings.Contains(out.String(), c.shown) || c.hidden != "" && strings.Contains(out.String(), c.hidden) {
				t.Errorf("it shows\n%s", out.String())
			}
		})
	}
}

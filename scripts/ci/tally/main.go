// Command tally reads the output of go test -json, prints what a person wants to see of it (each package's result, and
// everything of what failed or was skipped) and writes the counts to a file, so that the closing line of a gate is
// counted and not claimed. It exits 1 when anything failed or when nothing ran at all. Standard library only.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type testEvent struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

type tally struct {
	passed, failed, skipped int
	// output holds what each running test has printed, by package and test.
	output map[string]*strings.Builder
	// blamed holds the packages in which a test of its own has failed.
	blamed map[string]bool
	// took holds the tests of each running package that are not part of another, with their seconds.
	took map[string][]testEvent
	out  io.Writer
}

func main() {
	counts := flag.String("counts", "", "file to append the counts to, as one line: passed failed skipped")
	flag.Parse()
	t := newTally(os.Stdout)
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	fmt.Printf("tests: %d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	if *counts != "" {
		line := fmt.Sprintf("%d %d %d\n", t.passed, t.failed, t.skipped)
		if err := appendLine(*counts, line); err != nil {
			fmt.Fprintln(os.Stderr, "tally:", err)
			os.Exit(1)
		}
	}
	if t.failed > 0 || t.passed+t.skipped == 0 {
		os.Exit(1)
	}
}

func newTally(out io.Writer) *tally {
	return &tally{output: map[string]*strings.Builder{}, blamed: map[string]bool{}, took: map[string][]testEvent{}, out: out}
}

func (t *tally) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 1<<20), 64<<20)
	for lines.Scan() {
		var event testEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			// What is not an event, such as a message of the tool chain, is shown as it is.
			fmt.Fprintln(t.out, lines.Text())
			continue
		}
		t.take(event)
	}
	return lines.Err()
}

func (t *tally) take(event testEvent) {
	key := event.Package + " " + event.Test
	switch event.Action {
	case "output":
		if t.output[key] == nil {
			t.output[key] = &strings.Builder{}
		}
		t.output[key].WriteString(event.Output)
	case "build-output":
		fmt.Fprint(t.out, event.Output)
	case "build-fail":
		fmt.Fprintf(t.out, "DOES NOT BUILD %s\n", event.ImportPath)
	case "pass", "fail", "skip":
		t.end(event, key)
	}
}

func (t *tally) end(event testEvent, key string) {
	printed := t.output[key]
	delete(t.output, key)
	if event.Test == "" {
		t.endPackage(event, printed)
		return
	}
	if !strings.Contains(event.Test, "/") {
		t.took[event.Package] = append(t.took[event.Package], event)
	}
	switch event.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		fmt.Fprintf(t.out, "SKIPPED %s %s\n%s", event.Package, event.Test, text(printed))
	case "fail":
		t.failed++
		t.blamed[event.Package] = true
		fmt.Fprintf(t.out, "FAILED %s %s (%.2fs)\n%s", event.Package, event.Test, event.Elapsed, text(printed))
	}
}

// endPackage prints a package's result. A package that failed without a failed test (it does not build, or its process
// died) counts as one failure.
func (t *tally) endPackage(event testEvent, printed *strings.Builder) {
	switch event.Action {
	case "fail":
		if !t.blamed[event.Package] {
			t.failed++
		}
		fmt.Fprintf(t.out, "FAILED %s (%.2fs)\n%s", event.Package, event.Elapsed, text(printed))
	case "pass":
		fmt.Fprintf(t.out, "ok %s (%.2fs)\n", event.Package, event.Elapsed)
	}
	if event.Elapsed >= slowPackage {
		fmt.Fprintf(t.out, "   of which%s\n", slowest(t.took[event.Package]))
	}
	delete(t.took, event.Package)
}

// A package that takes so many seconds says which of its tests took most of them.
const (
	slowPackage  = 60
	slowestNamed = 8
)

func slowest(tests []testEvent) string {
	slices.SortFunc(tests, func(a, b testEvent) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	var named strings.Builder
	for _, one := range tests[:min(len(tests), slowestNamed)] {
		fmt.Fprintf(&named, " %s %.0fs", one.Test, one.Elapsed)
	}
	return named.String()
}

func text(printed *strings.Builder) string {
	if printed == nil {
		return ""
	}
	return printed.String()
}

func appendLine(path, line string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(line); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

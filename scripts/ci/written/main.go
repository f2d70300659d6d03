// Command written says whether tests wrote, and so held against the contract, an event of every kind: internal/store/storetest leaves a file for
// each kind in the directory that is its argument. It exits 1 and names the kinds that are missing.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gpuaas/gpuaas/domain/event"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: written DIRECTORY")
		os.Exit(2)
	}
	all := event.All()
	absent, err := missing(os.Args[1], all)
	if err != nil {
		fmt.Fprintln(os.Stderr, "written:", err)
		os.Exit(2)
	}
	for _, kind := range absent {
		fmt.Fprintf(os.Stderr, "no test wrote the event %s: nothing holds it against schema/asyncapi\n", kind)
	}
	if len(absent) > 0 {
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "tests wrote every kind of event: %d\n", len(all))
}

// missing are the kinds of which no test left a file.
func missing(directory string, all []event.Type) ([]event.Type, error) {
	var missing []event.Type
	for _, kind := range all {
		if _, err := os.Stat(filepath.Join(directory, string(kind))); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, kind)
		} else if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

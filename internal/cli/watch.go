package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	client "github.com/gpuaas/gpuaas/client/go"
)

const (
	// watchEvery is the usual pause between two looks: twelve a minute, a small part of what anybody may ask.
	watchEvery = 5 * time.Second
	// watchFastest is the shortest pause that may be asked for.
	watchFastest = time.Second
	// watchLongest bounds the pause while the platform is away or asks to wait.
	watchLongest = 30 * time.Second
	// clearScreen puts the cursor in the upper left corner of an empty terminal.
	clearScreen = "\x1b[H\x1b[2J"
)

// view is one look at what a command shows.
type view struct {
	body   []byte
	render func() table
	// last says that what is seen will not change any more.
	last bool
}

// watching lets a command look once, or with --watch again and again until it is interrupted.
func (c *command) watching(cmd *cobra.Command, look func(ctx context.Context, api client.ClientInterface, arguments []string) (view, error)) *cobra.Command {
	var again bool
	var every time.Duration
	cmd.Flags().BoolVar(&again, "watch", false, "go on, and show every change until interrupted")
	cmd.Flags().DurationVar(&every, "watch-interval", watchEvery, "the pause between two looks")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if every < watchFastest {
			return usage("--watch-interval is at least %s", watchFastest)
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		seen, err := look(ctx, api, arguments)
		if err != nil {
			return err
		}
		if !again {
			return c.show(seen.body, seen.render)
		}
		w := watch{command: c, every: every, redraws: drawsOn(c.Out)}
		if err := w.run(ctx, seen, func() (view, error) { return look(ctx, api, arguments) }); ctx.Err() == nil {
			return err
		}
		return nil // an interrupt is how a watch ends
	}
	return cmd
}

// drawsOn says whether out is a terminal, on which a table may be drawn anew.
func drawsOn(out io.Writer) bool {
	file, isFile := out.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}

// watch shows what changes between looks.
type watch struct {
	*command
	every   time.Duration
	redraws bool
	shown   map[string]bool
}

// run shows the first look and every later one that differs. A platform that is away is asked less and less often until it is back.
func (w *watch) run(ctx context.Context, seen view, look func() (view, error)) error {
	if err := w.change(seen); err != nil {
		return err
	}
	wait, away := w.every, false
	for !seen.last {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		next, err := look()
		if err != nil {
			asked, passes := passing(err)
			if ctx.Err() != nil || !passes {
				return err
			}
			if !away {
				fmt.Fprintf(w.Err, "%s; still watching\n", describe(err))
			}
			away, wait = true, min(max(2*wait, asked), watchLongest)
			continue
		}
		if away {
			fmt.Fprintln(w.Err, "the platform answers again")
		}
		away, wait = false, w.every
		if !sameBut("as_of", next.body, seen.body) {
			if err := w.change(next); err != nil {
				return err
			}
		}
		seen = next
	}
	return nil
}

// sameBut says whether two answers differ in nothing but one field, which tells when each was given.
func sameBut(field string, one, other []byte) bool {
	without := func(body []byte) []byte {
		var fields map[string]json.RawMessage
		if json.Unmarshal(body, &fields) != nil {
			return body // a list, which has no such field
		}
		delete(fields, field)
		rest, err := json.Marshal(fields)
		if err != nil {
			return body
		}
		return rest
	}
	return bytes.Equal(without(one), without(other))
}

// passing says whether trouble may be over after a while, and how long the platform asks to wait.
func passing(err error) (time.Duration, bool) {
	var refused *client.Refusal
	if errors.As(err, &refused) {
		return refused.RetryAfter, refused.HTTPStatus >= http.StatusInternalServerError || refused.HTTPStatus == http.StatusTooManyRequests
	}
	var unreached transportError
	return 0, errors.As(err, &unreached)
}

// change shows a look: a document in JSON (one line each) or YAML, the whole table anew on a terminal, and elsewhere the rows
// that were not shown before.
func (w *watch) change(seen view) error {
	switch {
	case w.output == "json":
		var line bytes.Buffer
		if err := json.Compact(&line, seen.body); err != nil {
			return fmt.Errorf("the API's answer is not JSON: %w", err)
		}
		line.WriteByte('\n')
		_, err := line.WriteTo(w.Out)
		return err
	case w.output == "yaml":
		if _, err := fmt.Fprintln(w.Out, "---"); err != nil {
			return err
		}
		return writeYAML(w.Out, seen.body)
	case w.redraws:
		if _, err := fmt.Fprint(w.Out, clearScreen); err != nil {
			return err
		}
		return w.print(seen.render())
	}
	return w.printChanged(seen.render())
}

func (w *watch) printChanged(current table) error {
	fresh := table{}
	if w.shown == nil {
		fresh.header = current.header
	}
	now := map[string]bool{}
	for _, row := range current.rows {
		line := strings.Join(row, "\x00")
		now[line] = true
		if !w.shown[line] {
			fresh.rows = append(fresh.rows, slices.Clone(row))
		}
	}
	w.shown = now
	return w.print(fresh)
}

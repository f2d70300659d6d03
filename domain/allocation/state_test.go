package allocation_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/allocation"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	require.NoError(t, err)
	return string(text)
}

func names() []string {
	var list []string
	for _, state := range allocation.States() {
		list = append(list, string(state))
	}
	return list
}

// arrows is the table as from→to, sorted.
func arrows() []string {
	var list []string
	for _, from := range allocation.States() {
		for _, to := range from.Next() {
			list = append(list, string(from)+"→"+string(to))
		}
	}
	slices.Sort(list)
	return list
}

func words(text string) []string {
	return regexp.MustCompile(`[a-z_]+`).FindAllString(text, -1)
}

func TestMigrationHoldsTheSameStatesAndArrows(t *testing.T) {
	sql := read(t, "schema/migrations/0004_allocations.sql")
	check := regexp.MustCompile(`state\s+text NOT NULL CHECK \(state IN \(([^)]*)\)\)`).FindStringSubmatch(sql)
	require.NotNil(t, check, "the check on allocations.state")
	require.Equal(t, names(), words(check[1]))

	inserted := regexp.MustCompile(`(?s)INSERT INTO allocation_arrows VALUES(.*?);`).FindStringSubmatch(sql)
	require.NotNil(t, inserted)
	var stored []string
	for _, pair := range regexp.MustCompile(`\('([a-z_]+)', '([a-z_]+)'\)`).FindAllStringSubmatch(inserted[1], -1) {
		stored = append(stored, pair[1]+"→"+pair[2])
	}
	slices.Sort(stored)
	require.Equal(t, arrows(), stored)
}

func TestContractHoldsTheSameStates(t *testing.T) {
	contract := read(t, "schema/openapi/allocations.yaml")
	found := 0
	for _, enum := range regexp.MustCompile(`enum: \[([^\]]*)\]`).FindAllStringSubmatch(contract, -1) {
		if strings.Contains(enum[1], string(allocation.ReleaseFailed)) {
			found++
			require.Equal(t, names(), words(enum[1]))
		}
	}
	require.Positive(t, found, "the contract lists the states of an allocation")
}

func TestPageHoldsTheSameArrows(t *testing.T) {
	page := read(t, "docs/flows/allocation.md")
	var told []string
	rows := 0
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z_]+) \| ([a-z_, ]*)\|$`).FindAllStringSubmatch(page, -1) {
		from := allocation.State(row[1])
		if !from.Valid() {
			continue
		}
		rows++
		for _, to := range words(row[2]) {
			told = append(told, row[1]+"→"+to)
		}
	}
	require.Equal(t, len(allocation.States()), rows, "one row a state")
	slices.Sort(told)
	require.Equal(t, arrows(), told)
}

func TestStatesThatEndLeadNowhere(t *testing.T) {
	for _, state := range allocation.States() {
		require.True(t, state.Valid())
		require.Equal(t, len(state.Next()) == 0, state.Terminal(), state)
		for _, next := range allocation.States() {
			require.Equal(t, slices.Contains(state.Next(), next), state.CanBecome(next))
		}
	}
	require.False(t, allocation.State("gone").Valid())
}

func TestEveryStateButReleaseFailedTakesASlotUntilItEnds(t *testing.T) {
	taking := map[allocation.State]bool{
		allocation.Requested: true, allocation.Provisioning: true, allocation.Active: true, allocation.Releasing: true,
	}
	for _, state := range allocation.States() {
		require.Equal(t, taking[state], state.CountsAgainstLimit(), state)
	}
}

func TestMeterEndsWhenReleaseWasAskedForWithinItsTime(t *testing.T) {
	from := time.Date(2026, 3, 1, 12, 0, 0, 5_000_000, time.UTC)
	now := from.Add(time.Hour + 999*time.Microsecond)
	for name, c := range map[string]struct{ asked, want time.Time }{
		"in between":           {from.Add(time.Minute), from.Add(time.Minute)},
		"before the meter":     {from.Add(-time.Minute), from},
		"in the future":        {now.Add(time.Minute), from.Add(time.Hour)},
		"within a microsecond": {from.Add(time.Second + 1700*time.Microsecond), from.Add(time.Second + time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, allocation.MeterEnd(c.asked, from, now))
		})
	}
}

package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/node"
)

func head(generation int64, step string, attempt int) node.Task {
	return node.Task{AllocationID: "alloc_a", NodeID: "node_a", Generation: generation, Step: step, Attempt: attempt}
}

// A crash may cut the file after any byte: what was acknowledged before is replayed, the cut line is not believed, and
// the journal goes on.
func TestJournalSurvivesACutAtEveryByte(t *testing.T) {
	directory := t.TempDir()
	j, err := OpenJournal(directory)
	require.NoError(t, err)
	first, second := head(1, "provision", 1), head(1, "keys", 1)
	require.NoError(t, j.Begin(first, node.UserProvision, []byte("in")))
	require.NoError(t, j.Finish(first, node.UserProvision, []byte("in"), []byte(`{"uid":1}`)))
	safe := fileSize(t, directory)
	require.NoError(t, j.Begin(second, node.SSHKeysSync, []byte("in")))
	begun := fileSize(t, directory)
	require.NoError(t, j.Finish(second, node.SSHKeysSync, []byte("in"), []byte(`{"keys":1}`)))
	require.NoError(t, j.Close())
	whole, err := os.ReadFile(filepath.Join(directory, "journal"))
	require.NoError(t, err)

	for cut := safe; cut <= len(whole); cut++ {
		crashed := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(crashed, "journal"), whole[:cut], 0o600))
		again, err := OpenJournal(crashed)
		require.NoError(t, err)
		out, found := again.Replay(first, node.UserProvision, []byte("in"))
		require.True(t, found, "cut at %d", cut)
		require.JSONEq(t, `{"uid":1}`, string(out))
		_, found = again.Replay(second, node.SSHKeysSync, []byte("in"))
		// The line feed itself may be missing: the record before it is whole.
		require.Equal(t, cut >= len(whole)-1, found, "cut at %d of %d, begun at %d", cut, len(whole), begun)
		require.NoError(t, again.Finish(second, node.SSHKeysSync, []byte("in"), []byte(`{"keys":2}`)))
		require.NoError(t, again.Close())
		last, err := OpenJournal(crashed)
		require.NoError(t, err)
		out, found = last.Replay(second, node.SSHKeysSync, []byte("in"))
		require.True(t, found)
		require.JSONEq(t, `{"keys":2}`, string(out))
		require.NoError(t, last.Close())
	}
}

func TestJournalReplaysOnlyTheSameTask(t *testing.T) {
	j, err := OpenJournal(t.TempDir())
	require.NoError(t, err)
	done := head(1, "keys", 1)
	require.NoError(t, j.Finish(done, node.SSHKeysSync, []byte("in"), []byte(`{}`)))
	for name, try := range map[string]struct {
		task  node.Task
		kind  node.TaskKind
		input string
		found bool
	}{
		"the same":           {done, node.SSHKeysSync, "in", true},
		"another input":      {done, node.SSHKeysSync, "other", false},
		"another kind":       {done, node.UserProvision, "in", false},
		"another attempt":    {head(1, "keys", 2), node.SSHKeysSync, "in", false},
		"another generation": {head(2, "keys", 1), node.SSHKeysSync, "in", false},
	} {
		_, found := j.Replay(try.task, try.kind, []byte(try.input))
		require.Equal(t, try.found, found, name)
	}
	require.NoError(t, j.Prune(2))
	_, found := j.Replay(done, node.SSHKeysSync, []byte("in"))
	require.False(t, found, "below the floor")
}

func TestJournalIsBounded(t *testing.T) {
	directory := t.TempDir()
	j, err := OpenJournal(directory)
	require.NoError(t, err)
	for attempt := range 3 * journalRewriteAfter {
		require.NoError(t, j.Finish(head(1, "verify", attempt), node.ScrubVerify, []byte("in"), []byte(`{}`)))
	}
	require.LessOrEqual(t, len(j.entries), journalRewriteAfter)
	_, found := j.Replay(head(1, "verify", 3*journalRewriteAfter-1), node.ScrubVerify, []byte("in"))
	require.True(t, found, "the newest is kept")
	require.Less(t, fileSize(t, directory), 1<<20)
}

func fileSize(t *testing.T, directory string) int {
	t.Helper()
	info, err := os.Stat(filepath.Join(directory, "journal"))
	require.NoError(t, err)
	return int(info.Size())
}

func TestFence(t *testing.T) {
	directory := t.TempDir()
	f, err := OpenFence(directory)
	require.NoError(t, err)
	steps := []struct {
		name       string
		generation int64
		kind       node.TaskKind
		refused    bool
	}{
		{"the first lease opens", 3, node.UserProvision, false},
		{"an older lease is refused", 2, node.ScrubRun, true},
		{"repeating is allowed", 3, node.UserProvision, false},
		{"the end begins", 3, node.UserRevoke, false},
		{"a late provision is refused", 3, node.UserProvision, true},
		{"late keys are refused", 3, node.SSHKeysSync, true},
		{"the end goes on", 3, node.ScrubRun, false},
		{"and is checked", 3, node.ScrubVerify, false},
		{"the next lease opens", 4, node.UserProvision, false},
		{"the one before is over", 3, node.ScrubVerify, true},
		{"the next lease gets keys", 4, node.SSHKeysSync, false},
	}
	for _, step := range steps {
		require.Equal(t, step.refused, f.Refuses(step.generation, step.kind) != "", step.name)
		if !step.refused {
			_, err := f.Enter(step.generation, step.kind)
			require.NoError(t, err)
		}
		f, err = OpenFence(directory) // a restart forgets nothing
		require.NoError(t, err)
	}
	raised, err := f.Raise(2)
	require.NoError(t, err)
	require.False(t, raised, "the floor never falls")
	require.Equal(t, int64(4), f.Floor())
	raised, err = f.Raise(6)
	require.NoError(t, err)
	require.True(t, raised)
	require.NotEmpty(t, f.Refuses(5, node.UserRevoke))

	require.NoError(t, os.WriteFile(filepath.Join(directory, "fence"), []byte("00000000 {}\n"), 0o600))
	_, err = OpenFence(directory)
	require.ErrorIs(t, err, errTorn, "a damaged fence is not guessed")
}

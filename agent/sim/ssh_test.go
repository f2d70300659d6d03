package sim

import (
	"log/slog"
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// listening opens the node's door and answers its port, or the refusal.
func listening(t *testing.T, directory string, told int) (port int, close func() error, err error) {
	t.Helper()
	listener, err := listen(t.Context(), directory, Config{SSHHost: "127.0.0.1", SSHPort: told, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, nil, err
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port, listener.Close, nil
}

func TestANodeListensWhereItIsToldToAndNowhereElse(t *testing.T) {
	free, closeFree, err := listening(t, t.TempDir(), 0)
	require.NoError(t, err)
	require.NoError(t, closeFree())
	directory := t.TempDir()
	_, closeLast, err := listening(t, directory, 0) // of an earlier life, somewhere else
	require.NoError(t, err)
	require.NoError(t, closeLast())
	port, _, err := listening(t, directory, free)
	require.NoError(t, err)
	require.Equal(t, free, port)
	_, _, err = listening(t, t.TempDir(), free)
	require.ErrorContains(t, err, strconv.Itoa(free), "a silent move would leave tenants before a closed door")
}

func TestANodeThatIsToldNothingComesBackToItsPortWhileThatIsFree(t *testing.T) {
	directory := t.TempDir()
	first, closeFirst, err := listening(t, directory, 0)
	require.NoError(t, err)
	require.NoError(t, closeFirst())
	again, _, err := listening(t, directory, 0)
	require.NoError(t, err)
	require.Equal(t, first, again)
	moved, _, err := listening(t, directory, 0) // taken by the one before
	require.NoError(t, err)
	require.NotEqual(t, first, moved)
}

package evidence

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"github.com/gpuaas/gpuaas/domain/hashchain"
)

// longestLine bounds a line of a file of heads, in bytes.
const longestLine = 64 << 10

// ReadHeads opens every signed head of a file with one of the public keys. A line that does not hold is an error, except a
// last one that was cut short in the middle of writing.
func ReadHeads(ctx context.Context, file io.Reader, trusted []ed25519.PublicKey) ([]hashchain.Head, error) {
	lines := bufio.NewReaderSize(file, longestLine)
	var heads []hashchain.Head
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return heads, nil
		}
		if err != nil {
			return heads, fmt.Errorf("line %d: %w", number, err)
		}
		head, err := OpenHead(ctx, line, trusted)
		if err != nil {
			return heads, fmt.Errorf("line %d: %w", number, err)
		}
		heads = append(heads, head)
	}
}

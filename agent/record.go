package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// seal renders a record as one line: the CRC-32C of its JSON, and the JSON.
func seal(record any) ([]byte, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn says that a line is not what seal wrote: the machine stopped while it was written.
var errTorn = errors.New("the record is torn")

// unseal reads a line that seal rendered, without its line feed.
func unseal(line []byte, record any) error {
	sum, body, found := bytes.Cut(line, []byte(" "))
	if !found {
		return errTorn
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return errTorn
	}
	if err := json.Unmarshal(body, record); err != nil {
		return errors.Join(errTorn, err)
	}
	return nil
}

package stack

import (
	"net"
	"strconv"

	"github.com/gpuaas/gpuaas/internal/email/sink"
)

// startSMTP runs the sink. It keeps the mails in memory: what nobody was sent is gone with the instance.
func (s *Stack) startSMTP() (err error) {
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	s.SMTP, err = sink.Start(sink.Config{Address: at(s.Ports.SMTP()), PageAddress: at(s.Ports.SMTPPage())})
	return err
}

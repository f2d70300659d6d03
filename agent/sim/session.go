package sim

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// session is one channel of a logged-in user: a command, or a shell.
type session struct {
	door    *door
	user    string
	forced  string
	channel ssh.Channel
	pty     bool
}

func (s *session) serve(wishes <-chan *ssh.Request) {
	for wish := range wishes {
		switch wish.Type {
		case "env", "window-change":
			_ = wish.Reply(true, nil)
		case "pty-req":
			// A restricted key gets no terminal, as with OpenSSH.
			s.pty = s.forced == ""
			_ = wish.Reply(s.pty, nil)
		case "exec", "shell":
			var exec struct{ Command string }
			if wish.Type == "exec" {
				if err := ssh.Unmarshal(wish.Payload, &exec); err != nil {
					_ = wish.Reply(false, nil)
					continue
				}
			}
			_ = wish.Reply(true, nil)
			go s.start(wish.Type == "shell", exec.Command)
		default:
			_ = wish.Reply(false, nil)
		}
	}
}

// start runs the forced command, the given one, or a shell, and closes the channel with its status.
func (s *session) start(shell bool, command string) {
	stop, err := s.door.machine.start(s.user, strings.TrimSpace("sh "+command), func() { _ = s.channel.Close() })
	status := 1
	if err == nil {
		defer stop()
		switch {
		case s.forced != "":
			status = s.execute(s.channel, s.forced)
		case shell:
			status = s.converse()
		default:
			status = s.execute(s.channel, command)
		}
	}
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	_ = s.channel.Close()
}

const prompt = "$ "

// converse reads a line at a time until "exit" or the end.
func (s *session) converse() int {
	// A login leaves a trace that the wipe must find.
	if err := s.door.machine.touch(s.user, ".bash_history"); err != nil {
		return 1
	}
	mute := s.channel.(io.ReadWriter)
	terminal := term.NewTerminal(mute, "")
	if s.pty {
		terminal.SetPrompt(prompt)
	}
	for {
		line, err := terminal.ReadLine()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			return 0
		}
		if strings.TrimSpace(line) == "exit" {
			return 0
		}
		s.execute(terminal, line)
	}
}

const notFound = 127

// execute answers the few commands that a simulated machine knows.
func (s *session) execute(out io.Writer, line string) int {
	words := strings.Fields(line)
	if len(words) == 0 {
		return 0
	}
	a, found := s.door.machine.account(s.user)
	if !found {
		return 1
	}
	var text string
	switch words[0] {
	case "true", "/bin/true":
	case "false":
		return 1
	case "nvidia-smi":
		text = s.door.hardware.smi()
	case "whoami":
		text = s.user + "\n"
	case "id":
		text = fmt.Sprintf("uid=%d(%s) gid=%d(%s) groups=%d(%s)\n", a.UID, s.user, a.UID, s.user, a.UID, s.user)
	case "hostname":
		text = s.door.hardware.name + "\n"
	case "pwd":
		text = a.Home + "\n"
	case "uname":
		text = "Linux\n"
	case "echo":
		text = strings.Join(words[1:], " ") + "\n"
	case "ls":
		for _, path := range s.door.machine.state().Files {
			if rest, mine := strings.CutPrefix(path, a.Home+"/"); mine {
				text += rest + "\n"
			}
		}
	case "touch":
		for _, path := range words[1:] {
			if err := s.door.machine.touch(s.user, path); err != nil {
				_, _ = fmt.Fprintf(out, "touch: %s: %v\n", path, err)
				return 1
			}
		}
	default:
		_, _ = fmt.Fprintf(out, "%s: command not found (this node is simulated)\n", words[0])
		return notFound
	}
	_, _ = io.WriteString(out, text)
	return 0
}

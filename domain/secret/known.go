package secret

import (
	"encoding/base64"
	"strings"
)

// token finds letters, digits, dashes and underscores, at least that many after the opening.
func token(text string, at, after, least int) (int, int) {
	end := after
	for end < len(text) && (alphanumeric(text[end]) || text[end] == '_' || text[end] == '-') {
		end++
	}
	if end-after < least {
		return 0, 0
	}
	return at, end
}

// longestID is beyond what Stripe promises of its ids, in bytes.
const longestID = 255

// ownID is how many characters the ids of this platform have, which are small letters and digits; Stripe's have fewer.
const ownID = 26

// stripeID finds an id of Stripe, and the client secret that may follow: letters and digits of both cases, at least 14. Where chance, or whoever
// wrote it down, left the capitals out, it has to be longer and in one piece, so that no name of a field and no id of our own is taken for one.
func stripeID(text string, at, after int) (int, int) {
	end, word, digits, capitals := after, 0, 0, false
	for end < len(text) && end-after < longestID && (alphanumeric(text[end]) || text[end] == '_') {
		if digit(text[end]) {
			digits++
		}
		if capitals = capitals || upper(text[end]); text[end] == '_' && word == 0 {
			word = end - after
		}
		end++
	}
	if word == 0 {
		word = end - after
	}
	mixed, small := capitals && digits > 0 && end-after >= 14, digits >= 2 && word >= 16 && word != ownID
	if !mixed && !small {
		return 0, 0
	}
	return at, end
}

// tokenHeads are how the header of a JSON web token goes on: with one, a token is known also when it was cut off.
var tokenHeads = []string{"eyJhbGci", "eyJ0eXAi", "eyJraWQi", "eyJlbmMi", "eyJjdHki", "eyJ4NXQi", "eyJqa3Ui", "eyJqd2si"}

// webToken finds JSON web tokens, signed, unsigned, encrypted or cut off, and other base64 of JSON with a secret inside.
func (c *cleaner) webToken(at int) (int, int) {
	text, end, dots, head := c.text, at, 0, isTokenHead(c.text[at:])
	if at < c.judged && !head {
		return 0, 0
	}
	for end < len(text) {
		switch char := text[end]; {
		case base64Byte(char):
		case char == '.':
			dots++
		case char == '%' && end+2 < len(text) && text[end+1] == '2' && (text[end+2] == 'E' || text[end+2] == 'e'):
			dots++
			end += 2
		default:
			return c.judge(at, end, dots, head)
		}
		end++
	}
	return c.judge(at, end, dots, head)
}

func (c *cleaner) judge(at, end, dots int, head bool) (int, int) {
	first := strings.IndexByte(c.text[at:end], '.')
	if head || dots > 0 && first >= 8 && end-at-first > 5 {
		return at, end
	}
	from, to := c.encoded(at)
	if to <= from {
		c.judged = end
	}
	return from, to
}

func isTokenHead(text string) bool {
	for _, head := range tokenHeads {
		if strings.HasPrefix(text, head) {
			return true
		}
	}
	return false
}

// mostEncoded is how much of a base64 text is opened, in bytes.
const mostEncoded = 4 << 10

// encoded opens base64 and cuts it whole if there is a secret inside.
func (c *cleaner) encoded(at int) (int, int) {
	if at < c.judged {
		return 0, 0
	}
	text, end := c.text, at
	for end < len(text) && base64Byte(text[end]) {
		end++
	}
	c.judged = end
	if !c.deep || end-at < 20 {
		return 0, 0
	}
	body := strings.TrimRight(text[at:min(end, at+mostEncoded)], "=")
	if len(body)%4 == 1 {
		body = body[:len(body)-1]
	}
	body = strings.NewReplacer("-", "+", "_", "/").Replace(body)
	inside, err := base64.RawStdEncoding.DecodeString(body)
	if err != nil || scan(string(inside), false) == string(inside) {
		return 0, 0
	}
	return at, end
}

func base64Byte(c byte) bool {
	return alphanumeric(c) || c == '+' || c == '/' || c == '-' || c == '_' || c == '='
}

// privateKey finds a PEM block of a private key, a cut-off one too. Certificates and public keys are none.
func privateKey(text string, at, after int) (int, int) {
	end := strings.Index(text[after:min(len(text), after+64)], "-----")
	if end < 0 {
		if strings.Contains(text[after:min(len(text), after+64)], "PRIVATE") {
			return at, len(text)
		}
		return 0, 0
	}
	if !strings.Contains(text[after:after+end], "PRIVATE") {
		return 0, 0
	}
	body := after + end + len("-----")
	closing := strings.Index(text[body:], "-----END")
	if closing < 0 {
		return at, len(text)
	}
	last := body + closing + len("-----END")
	if dashes := strings.Index(text[last:min(len(text), last+64)], "-----"); dashes >= 0 {
		return at, last + dashes + len("-----")
	}
	return at, last
}

// scheme finds what follows Bearer or Basic: a word that is no word of a language.
func scheme(text string, after int) (int, int) {
	from := after
	for from < len(text) && (blank(text[from]) || text[from] == '+') {
		from++
	}
	if strings.HasPrefix(text[from:], "%20") {
		from += 3
	}
	if from == after {
		return 0, 0
	}
	end, letters := from, true
	for end < len(text) && (base64Byte(text[end]) || text[end] == '.' || text[end] == '~') {
		if c := text[end]; !lower(c) && c != '.' && (end != from || !upper(c)) {
			letters = false
		}
		end++
	}
	if end-from < 6 || letters && end-from < 20 {
		return 0, 0
	}
	return from, end
}

// restOfLine finds what follows up to the end of the line or of the text in quotes.
func restOfLine(text string, after int) (int, int) {
	from := after
	for from < len(text) && blank(text[from]) {
		from++
	}
	if from == after || strings.HasPrefix(text[from:], Redacted) {
		return 0, 0
	}
	return from, headerEnd(text, from)
}

// quotedWord finds the quoted text after the PASSWORD or IDENTIFIED BY of SQL.
func quotedWord(text string, after int) (int, int) {
	from := after
	for from < len(text) && blank(text[from]) {
		from++
	}
	if from == after {
		return 0, 0
	}
	opened, ok := quoteAt(text, from)
	if !ok {
		return 0, 0
	}
	return opened.after, opened.closing(text)
}

// flag finds the value of a flag whose name is secret, as the next word of a line or the next one in a list.
func flag(text string, after int) (int, int) {
	end := after
	for end < len(text) && end-after < longestName && nameByte(text[end]) {
		end++
	}
	if found := familyOf(text[after:end]); found == harmless || found == inQuery && !strings.EqualFold(text[after:end], "pass") {
		return 0, 0
	}
	from := end
	for from < len(text) && from < end+6 && strings.IndexByte(" \t\"',\\", text[from]) >= 0 {
		from++
	}
	to := from
	for to < len(text) && strings.IndexByte(" \t\r\n\"',]\\", text[to]) < 0 {
		to++
	}
	if from == end || strings.HasPrefix(text[from:], "-") || strings.HasPrefix(text[from:], Redacted) {
		return 0, 0
	}
	return from, to
}

// passwordFlags are the programs whose -p or -a is followed by a password, at once or as the next word. To others it is a port or a path.
var passwordFlags = []struct {
	program, flag string
	spaced        bool
}{{"mysql", "-p", false}, {"mariadb", "-p", false}, {"sshpass", "-p", true}, {"redis-cli", "-a", true}}

// longestCommand is how far before a flag its program may be named, in bytes.
const longestCommand = 256

// commandFlag finds the password behind a short flag of a program that the line names before it.
func commandFlag(text string, at, after int) (int, int) {
	line := text[max(0, at-longestCommand):at]
	line = line[strings.LastIndexByte(line, '\n')+1:]
	for _, known := range passwordFlags {
		if text[at:after] != known.flag || !strings.Contains(line, known.program) {
			continue
		}
		from := after
		if known.spaced && from < len(text) && text[from] == ' ' {
			from++
		}
		from += len(text[from:]) - len(strings.TrimLeft(text[from:], `"'`))
		to := from
		for to < len(text) && strings.IndexByte(" \t\r\n\"'", text[to]) < 0 {
			to++
		}
		return from, to
	}
	return 0, 0
}

// userAndPassword finds the password in the user:password that curl takes.
func userAndPassword(text string, after int) (int, int) {
	end := after
	for end < len(text) && strings.IndexByte(" \t\r\n", text[end]) < 0 {
		end++
	}
	colon := strings.IndexByte(text[after:end], ':')
	if colon < 0 {
		return 0, 0
	}
	return after + colon + 1, len(strings.TrimRight(text[:end], `"'`))
}

func passwordHash(text string, at, after int) (int, int) {
	end := after
	for end < len(text) && (base64Byte(text[end]) || strings.IndexByte("$.,", text[end]) >= 0) {
		end++
	}
	if end-after < 8 {
		return 0, 0
	}
	return at, end
}

// puttyLines finds the private lines of a key file of PuTTY, up to its authentication code.
func puttyLines(text string, after int) (int, int) {
	if end := strings.Index(text[after:], "Private-MAC"); end >= 0 {
		return after, after + end
	}
	return after, len(text)
}

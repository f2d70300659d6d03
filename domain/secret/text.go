package secret

import (
	"strconv"
	"strings"
)

const (
	// longestText is how much of a text is kept, in bytes; what is not looked at is not shown.
	longestText = 64 << 10
	// cutWindow is how far back a cut goes to find the end of a word, so that it does not leave a piece of a secret that
	// is too short to be known as one.
	cutWindow = 4 << 10
)

// Text cuts secrets out of a text: known kinds of tokens and keys wherever they stand, and what follows a secret name in
// a header, JSON (also JSON inside JSON), a URL, a form, YAML, an environment, a DSN, or what Go prints of a struct. A
// text without a secret comes back as it is, without an allocation, unless it is longer than 64 KiB and is cut.
func Text(text string) string {
	if len(text) <= longestText {
		return scan(text, true)
	}
	end := longestText
	if last := strings.LastIndexAny(text[end-cutWindow:end], " \t\r\n\",;&"); last > 0 {
		end += last - cutWindow
	}
	return scan(text[:end], true) + " [" + strconv.Itoa(len(text)-end) + " bytes cut]"
}

// cleaner builds a text without what was cut out of it; nothing is built before the first cut.
type cleaner struct {
	text   string
	out    []byte
	copied int
	// deep says whether base64 is opened; judged is up to where it was, in vain, so that no run is opened at each of its bytes.
	deep   bool
	judged int
}

func (c *cleaner) cut(from, to int) {
	if from < c.copied {
		from = c.copied
	}
	if c.out == nil {
		c.out = make([]byte, 0, len(c.text))
	}
	c.out = append(append(c.out, c.text[c.copied:from]...), Redacted...)
	c.copied = to
}

func (c *cleaner) String() string {
	if c.out == nil {
		return c.text
	}
	return string(append(c.out, c.text[c.copied:]...))
}

// scan goes over the text once.
func scan(text string, deep bool) string {
	c := cleaner{text: text, deep: deep}
	for i := 0; i < len(text); {
		from, to := 0, 0
		switch interest[text[i]] {
		case boring:
			i++
			continue
		case separator:
			from, to = afterSeparator(text, i)
		case letter:
			if i+1 == len(text) || !pairs.has(text[i], text[i+1]) {
				i++
				continue
			}
			from, to = c.known(i)
		}
		if to <= from {
			i++
			continue
		}
		c.cut(from, to)
		i = to
	}
	return c.String()
}

// What a byte may begin.
const (
	boring uint8 = iota
	separator
	letter
)

var interest = interests()

func interests() (table [256]uint8) {
	for _, c := range []byte(":=%>") {
		table[c] = separator
	}
	for _, one := range openings {
		table[one.prefix[0]] = letter
		if one.anyCase {
			table[one.prefix[0]+'A'-'a'] = letter
		}
	}
	return table
}

// kind is what an opening opens.
type kind int

const (
	tokenKind kind = iota
	webTokenKind
	encodedKind
	privateKeyKind
	schemeKind
	restOfLineKind
	quotedWordKind
	flagKind
	userAndPasswordKind
	commandFlagKind
	stripeIDKind
	passwordHashKind
	puttyKind
)

// opening is how a known kind of secret begins.
type opening struct {
	prefix string
	// anyCase prefixes are authored in lower case.
	anyCase bool
	// inside allows the opening within a word.
	inside bool
	kind   kind
	// least is how many characters a token has after its opening.
	least int
}

// find answers where the secret lies whose opening stands at a place of the text; nothing if it is none.
func (c *cleaner) find(o *opening, at int) (from, to int) {
	text, after := c.text, at+len(o.prefix)
	switch o.kind {
	case tokenKind:
		return token(text, at, after, o.least)
	case webTokenKind:
		return c.webToken(at)
	case encodedKind:
		return c.encoded(at)
	case privateKeyKind:
		return privateKey(text, at, after)
	case schemeKind:
		return scheme(text, after)
	case restOfLineKind:
		return restOfLine(text, after)
	case quotedWordKind:
		return quotedWord(text, after)
	case flagKind:
		return flag(text, after)
	case userAndPasswordKind:
		return userAndPassword(text, after)
	case commandFlagKind:
		return commandFlag(text, at, after)
	case stripeIDKind:
		return stripeID(text, at, after)
	case puttyKind:
		return puttyLines(text, after)
	default:
		return passwordHash(text, at, after)
	}
}

var openings = []opening{
	{prefix: "eyJ", inside: true, kind: webTokenKind},
	{prefix: "-----BEGIN", inside: true, kind: privateKeyKind},
	{prefix: "bearer", anyCase: true, kind: schemeKind},
	{prefix: "basic", anyCase: true, kind: schemeKind},
	{prefix: "aws4-hmac-sha256", anyCase: true, kind: restOfLineKind},
	{prefix: "password", anyCase: true, kind: quotedWordKind},
	{prefix: "identified by", anyCase: true, kind: quotedWordKind},
	{prefix: "--", kind: flagKind},
	{prefix: "private-lines:", anyCase: true, kind: puttyKind},
	{prefix: "-u ", kind: userAndPasswordKind},
	{prefix: "-p", kind: commandFlagKind},
	{prefix: "-a", kind: commandFlagKind},

	{prefix: TerminalTokenPrefix, inside: true, least: 6},
	{prefix: PersonalTokenPrefix, inside: true, least: 6},
	{prefix: ServiceAccountTokenPrefix, inside: true, least: 6},
	{prefix: ServiceAccountSecretPrefix, inside: true, least: 6},
	{prefix: EnrolTokenPrefix, inside: true, least: 6},
	{prefix: InvitationPrefix, inside: true, least: 6},

	// Stripe's keys and webhook secrets, customers, and what names a payment
	{prefix: "sk_live_", least: 6}, {prefix: "sk_test_", least: 6},
	{prefix: "rk_live_", least: 6}, {prefix: "rk_test_", least: 6},
	{prefix: "pk_live_", least: 6}, {prefix: "pk_test_", least: 6},
	{prefix: "whsec_", least: 6}, {prefix: "cus_", least: 6},
	{prefix: "pi_", kind: stripeIDKind}, {prefix: "ch_", kind: stripeIDKind}, {prefix: "pm_", kind: stripeIDKind}, {prefix: "seti_", kind: stripeIDKind},
	{prefix: "tok_", kind: stripeIDKind}, {prefix: "src_", kind: stripeIDKind}, {prefix: "card_", kind: stripeIDKind},
	{prefix: "re_", kind: stripeIDKind}, {prefix: "py_", kind: stripeIDKind}, {prefix: "txn_", kind: stripeIDKind},
	{prefix: "cs_live_", least: 14}, {prefix: "cs_test_", least: 14},

	// base64 of something that begins with {", eyJ, gpuaas_, Bearer or -----BEGIN: opened, and cut if a secret is inside
	{prefix: "ZXlK", kind: encodedKind}, {prefix: "Z3B1YWFzX", kind: encodedKind}, {prefix: "QmVhcmVyI", kind: encodedKind}, {prefix: "LS0tLS1CRUdJTi", kind: encodedKind},
	// the body of a private key of OpenSSH without its first line
	{prefix: "b3BlbnNzaC1rZXktdjE", least: 0},

	// hashes of passwords
	{prefix: "$2a$", inside: true, kind: passwordHashKind}, {prefix: "$2b$", inside: true, kind: passwordHashKind},
	{prefix: "$2y$", inside: true, kind: passwordHashKind}, {prefix: "$argon2", inside: true, kind: passwordHashKind},
	{prefix: "$6$", inside: true, kind: passwordHashKind}, {prefix: "$5$", inside: true, kind: passwordHashKind},
	{prefix: "$y$", inside: true, kind: passwordHashKind}, {prefix: "$scrypt$", inside: true, kind: passwordHashKind},

	// what tenants and operators bring along
	{prefix: "ghp_", least: 20}, {prefix: "gho_", least: 20}, {prefix: "ghs_", least: 20}, {prefix: "github_pat_", least: 20},
	{prefix: "glpat-", least: 16}, {prefix: "xoxb-", least: 10}, {prefix: "xoxp-", least: 10}, {prefix: "hvs.", least: 16},
	{prefix: "hf_", least: 24}, {prefix: "AIza", least: 30}, {prefix: "npm_", least: 30}, {prefix: "AGE-SECRET-KEY-", least: 20},
}

// pairSet is a set of two bytes in a row.
type pairSet [1 << 16 / 64]uint64

func (s *pairSet) has(first, second byte) bool {
	pair := uint16(first)<<8 | uint16(second)
	return s[pair/64]&(1<<(pair%64)) != 0
}

func (s *pairSet) add(first, second byte) {
	pair := uint16(first)<<8 | uint16(second)
	s[pair/64] |= 1 << (pair % 64)
}

// pairs are the first two bytes of every opening: nearly every place of a text is left behind by asking for them.
var pairs = openingPairs()

func openingPairs() *pairSet {
	var set pairSet
	for _, one := range openings {
		first, second := one.prefix[0], one.prefix[1]
		set.add(first, second)
		if one.anyCase {
			set.add(first-'a'+'A', second)
			set.add(first, second-'a'+'A')
			set.add(first-'a'+'A', second-'a'+'A')
		}
	}
	return &set
}

// byFirst lists the openings that begin with a byte.
var byFirst = openingsByFirst()

func openingsByFirst() (table [256][]opening) {
	for _, one := range openings {
		first := one.prefix[0]
		table[first] = append(table[first], one)
		if one.anyCase {
			table[first+'A'-'a'] = append(table[first+'A'-'a'], one)
		}
	}
	return table
}

// known answers where the secret lies that opens at i, or nothing.
func (c *cleaner) known(i int) (from, to int) {
	text := c.text
	wordStart := startsWord(text, i)
	candidates := byFirst[text[i]]
	for index := range candidates {
		one := &candidates[index]
		if !wordStart && !one.inside || !opens(text[i:], one) {
			continue
		}
		if from, to = c.find(one, i); to > from {
			return from, to
		}
	}
	return 0, 0
}

func opens(text string, one *opening) bool {
	if len(text) < len(one.prefix) {
		return false
	}
	if one.anyCase {
		return strings.EqualFold(text[:len(one.prefix)], one.prefix)
	}
	return text[:len(one.prefix)] == one.prefix
}

// startsWord says whether a word may begin at i: after no letter or digit, or after one that belongs to an escape such as
// \n, \u0026 or %20.
func startsWord(text string, i int) bool {
	if i == 0 || !alphanumeric(text[i-1]) {
		return true
	}
	return escapeBefore(text, i) > 0
}

// escapeBefore is the length of the escape that ends right before i: \n, \u0026 or %20; 0 if there is none.
func escapeBefore(text string, i int) int {
	switch {
	case i >= 2 && text[i-2] == '\\' && strings.IndexByte("nrtbf", text[i-1]) >= 0:
		return 2
	case i >= 3 && text[i-3] == '%' && hexadecimal(text[i-2]) && hexadecimal(text[i-1]):
		return 3
	case i >= 6 && text[i-6] == '\\' && text[i-5] == 'u':
		return 6
	}
	return 0
}

func hexadecimal(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

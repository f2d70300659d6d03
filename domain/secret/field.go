package secret

import "strings"

// field is a name with a separator behind it, as it stands in a text.
type field struct {
	text string
	// start is where the name begins, its quote included; after is behind the separator.
	start, after int
	family       family
	// separator is ':' , '=' or '>', which closes an XML tag.
	separator byte
	// encoded names and separators are percent-encoded.
	encoded bool
	quoted  bool
}

// afterSeparator answers where the secret lies that belongs to the separator at i, or nothing.
func afterSeparator(text string, i int) (from, to int) {
	f, ok := fieldAt(text, i)
	if ok {
		return f.value()
	}
	if from, to = formPart(text, i); to > from {
		return from, to
	}
	if text[i] == ':' {
		return address(text, i, "://", "@")
	}
	if strings.HasPrefix(text[i:], "%3A%2F%2F") || strings.HasPrefix(text[i:], "%3a%2f%2f") {
		return address(text, i, "%3A%2F%2F", "%40")
	}
	return 0, 0
}

// fieldAt reads the name before a separator; false if there is none or it is harmless.
func fieldAt(text string, i int) (field, bool) {
	f := field{text: text, separator: text[i], after: i + 1}
	switch {
	case text[i] != '%':
	case strings.HasPrefix(text[i:], "%253D") || strings.HasPrefix(text[i:], "%253d"): // encoded twice
		f.separator, f.encoded, f.after = '=', true, i+5
	case i+2 >= len(text) || text[i+1] != '3':
		return f, false
	case text[i+2] == 'A' || text[i+2] == 'a':
		f.separator, f.encoded, f.after = ':', true, i+3
	case text[i+2] == 'D' || text[i+2] == 'd':
		f.separator, f.encoded, f.after = '=', true, i+3
	default:
		return f, false
	}
	end := i
	for end > 0 && i-end < 4 && blank(text[end-1]) {
		end--
	}
	end, f.quoted = beforeQuote(text, end)
	// user[password]=…, also percent-encoded
	switch {
	case end > 0 && text[end-1] == ']':
		end--
	case end > 2 && (text[end-3:end] == "%5D" || text[end-3:end] == "%5d"):
		end -= 3
	}
	start := end
	for start > 0 && end-start < longestName && nameByte(text[start-1]) {
		start--
	}
	start = min(end, start+escapedInto(text, start))
	if start == end || text[i] == '>' && (start == 0 || text[start-1] != '<') {
		return f, false
	}
	f.start = start
	if f.family = familyOf(text[start:end]); f.family == harmless {
		f.family = f.besides(text[start:end])
	}
	if f.family == inQuery && !f.likeParameter(text[start:end]) {
		return f, false
	}
	return f, f.family != harmless
}

// beforeQuote goes back over a closing quote with its backslashes, or %22.
func beforeQuote(text string, end int) (int, bool) {
	switch {
	case end > 0 && strings.IndexByte("\"'`", text[end-1]) >= 0:
		end--
		for end > 0 && text[end-1] == '\\' {
			end--
		}
		return end, true
	case end > 2 && text[end-3:end] == "%22":
		return end - 3, true
	}
	return end, false
}

// escapedInto is how many of the first bytes of a name belong to an escape before it: the n of \n, the 20 of %20.
func escapedInto(text string, start int) int {
	switch {
	case start == 0:
		return 0
	case text[start-1] == '%':
		return 2
	case text[start-1] == '\\' && start < len(text):
		if text[start] == 'u' {
			return 5
		}
		if strings.IndexByte("nrtbf", text[start]) >= 0 {
			return 1
		}
	}
	return 0
}

// likeParameter says whether a word that is secret only in a URL stands in one, or is what an environment calls so.
func (f field) likeParameter(name string) bool {
	if f.separator != '=' {
		return false
	}
	if strings.EqualFold(name, "pass") {
		return true
	}
	opened := f.start > 0 && strings.IndexByte("?&", f.text[f.start-1]) >= 0 || escapeBefore(f.text, f.start) > 0
	if !opened || !strings.EqualFold(name, "code") {
		return opened
	}
	// An OAuth code is no word; a code of ours is.
	value := f.text[f.after:min(len(f.text), f.after+24)]
	return strings.IndexFunc(value, func(c rune) bool { return c < 128 && (digit(byte(c)) || upper(byte(c))) }) >= 0 && len(value) >= 10
}

// atLineStart says whether nothing but blanks, list dashes and export stands before the name on its line.
func (f field) atLineStart() bool {
	start := f.start
	if f.quoted && start > 0 {
		start--
	}
	before := f.text[:start]
	before = before[strings.LastIndexByte(before, '\n')+1:]
	if len(before) > 64 {
		return false
	}
	if cut := strings.LastIndex(before, `\n`); cut >= 0 {
		before = before[cut+2:]
	}
	before = strings.Trim(before, " \t-\r>")
	return before == "" || before == "export" || strings.HasSuffix(before, " export")
}

// withinBraces says whether the name stands in what Go prints of a struct or a map.
func (f field) withinBraces() bool {
	before := f.text[max(0, f.start-512):f.start]
	open := strings.LastIndexAny(before, "{[")
	return open >= 0 && strings.LastIndexAny(before, "}]") < open
}

// insideQuote says whether a quote of that kind is open where the name begins.
func (f field) insideQuote(quote byte) bool {
	before := f.text[max(0, f.start-1024):f.start]
	before = before[strings.LastIndexByte(before, '\n')+1:]
	return strings.Count(before, string(quote))%2 == 1
}

// address finds the password of a URL, or the whole user part of an https one without a password, which is a token. In
// what is no URL it finds the password of user:password@tcp(host).
func address(text string, i int, opening, at string) (from, to int) {
	if len(text)-i < len(opening) || !strings.EqualFold(text[i:i+len(opening)], opening) {
		if at == "@" {
			return beforeTransport(text, i)
		}
		return 0, 0
	}
	start := i + len(opening)
	end := start
	for end < len(text) && end-start < 2048 && strings.IndexByte(" \t\r\n\"'`<>\\", text[end]) < 0 {
		end++
	}
	authority := text[start:end]
	if slash := strings.IndexAny(authority, "/?#"); slash >= 0 {
		// A slash in a password that was not encoded is no end, if what stands before it is no port.
		host := authority[:slash]
		colon := strings.IndexByte(host, ':')
		if strings.Contains(host, at) || colon < 0 || numeric(host[colon+1:]) || strings.HasPrefix(host, "[") {
			authority = host
		}
	}
	last := strings.LastIndex(authority, at)
	if last < 0 {
		return 0, 0
	}
	colon := strings.IndexByte(authority[:last], ':')
	if at != "@" {
		if colon = strings.Index(strings.ToUpper(authority[:last]), "%3A"); colon >= 0 {
			colon += 2
		}
	}
	if colon < 0 {
		if before := text[max(0, i-5):i]; strings.HasSuffix(before, "http") || strings.HasSuffix(before, "https") {
			return start, start + last
		}
		return 0, 0
	}
	return start + colon + 1, start + last
}

// beforeTransport finds the password in the user:password@tcp(host) of a DSN.
func beforeTransport(text string, i int) (from, to int) {
	if i == 0 || !nameByte(text[i-1]) {
		return 0, 0
	}
	near := text[i+1 : min(len(text), i+129)]
	for at := strings.IndexByte(near, '@'); at >= 0; {
		if strings.ContainsAny(near[:at], " \t\n") {
			return 0, 0
		}
		rest := near[at+1:]
		if strings.HasPrefix(rest, "tcp(") || strings.HasPrefix(rest, "unix(") {
			return i + 1, i + 1 + at
		}
		next := strings.IndexByte(rest, '@')
		if next < 0 {
			return 0, 0
		}
		at += 1 + next
	}
	return 0, 0
}

func numeric(text string) bool {
	for i := range len(text) {
		if !digit(text[i]) {
			return false
		}
	}
	return true
}

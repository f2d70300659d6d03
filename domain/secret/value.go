package secret

import "strings"

// value answers where the value of a secret field lies, or nothing if there is none.
func (f field) value() (from, to int) {
	text, start := f.text, f.after
	if f.separator == '>' {
		return f.tagged()
	}
	for start < len(text) && (blank(text[start]) || start < f.after+2 && strings.IndexByte("=:>", text[start]) >= 0) {
		start++
	}
	if f.encoded {
		for strings.HasPrefix(text[start:], "%20") || strings.HasPrefix(text[start:], "+") {
			start += 1 + 2*strings.Count(text[start:start+1], "%")
		}
	}
	if start == len(text) {
		return 0, 0
	}
	if f.quoted && f.separator == ':' { // JSON may go on in the next line, indented or not
		next := start + len(text[start:]) - len(strings.TrimLeft(text[start:], " \t\r\n"))
		if opened, ok := quoteAt(text, next); ok && next > start && !fieldFollows(text, next) {
			return opened.after, opened.closing(text)
		}
	}
	if lines, ok := f.block(start); ok {
		return lines[0], lines[1]
	}
	if opened, ok := quoteAt(text, start); ok {
		end := opened.closing(text)
		if f.kept(text[opened.after:end]) {
			return 0, 0
		}
		return opened.after, end
	}
	if end := bracketEnd(text, start); end > start {
		return start, end
	}
	if f.prose(start) {
		return 0, 0
	}
	end := f.plainEnd(start)
	if f.kept(text[start:end]) {
		return 0, 0
	}
	return start, end
}

// kept says whether a value is no secret although its name is: nothing, a truth value, a count, a path.
func (f field) kept(value string) bool {
	switch value {
	case "", "true", "false", "null", "nil", "<nil>", "~":
		return true
	}
	switch f.family {
	case counted:
		return numeric(value)
	case path:
		return value[0] == '/' || value[0] == '~'
	default:
		return false
	}
}

// tagged finds the text between <password> and </.
func (f field) tagged() (from, to int) {
	end := strings.Index(f.text[f.after:], "</")
	if end < 0 {
		return f.after, len(f.text)
	}
	if f.kept(f.text[f.after : f.after+end]) {
		return 0, 0
	}
	return f.after, f.after + end
}

// block finds the indented lines under a YAML key, with | or > or nothing behind its colon.
func (f field) block(start int) (lines [2]int, ok bool) {
	text, next := f.text, start
	if f.separator != ':' {
		return lines, false
	}
	if text[next] == '|' || text[next] == '>' {
		for next++; next < len(text) && strings.IndexByte("+-0123456789", text[next]) >= 0; next++ {
		}
	}
	if next < len(text) && text[next] == '\r' {
		next++
	}
	if next >= len(text) || text[next] != '\n' {
		return lines, false
	}
	indent := indentation(text[strings.LastIndexByte(text[:f.start], '\n')+1:])
	end := next
	for end < len(text) {
		line := text[end+1:]
		if length := strings.IndexByte(line, '\n'); length >= 0 {
			line = line[:length]
		}
		if strings.TrimSpace(line) != "" && indentation(line) <= indent {
			break
		}
		end += 1 + len(line)
		if end >= len(text) {
			end = len(text)
			break
		}
	}
	if end == next || strings.TrimSpace(text[next:end]) == "" {
		// The name stands at the end of its line and nothing belongs to it.
		return [2]int{}, true
	}
	return [2]int{next + 1, end}, true
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

// quote is an opening quote with the backslashes before it, or %22.
type quote struct {
	after, backslashes int
	char               byte
	encoded            bool
}

func quoteAt(text string, i int) (quote, bool) {
	if strings.HasPrefix(text[i:], "%22") {
		return quote{after: i + 3, encoded: true}, true
	}
	at := i
	for at < len(text) && text[at] == '\\' {
		at++
	}
	if at >= len(text) || strings.IndexByte("\"'`", text[at]) < 0 {
		return quote{}, false
	}
	return quote{after: at + 1, backslashes: at - i, char: text[at]}, true
}

// closing is where the quoted text ends: at a quote with as many backslashes as the opening one, where a quote inside
// has more, or at the end of a text around it. Without one it is the end of the text.
func (q quote) closing(text string) int {
	if q.encoded {
		if end := strings.Index(text[q.after:], "%22"); end >= 0 {
			return q.after + end
		}
		return len(text)
	}
	backslashes := 0
	for i := q.after; i < len(text); i++ {
		switch text[i] {
		case '\\':
			backslashes++
			continue
		case q.char:
			if backslashes < q.backslashes || backslashes%(2*(q.backslashes+1)) == q.backslashes {
				return i - min(backslashes, q.backslashes)
			}
		}
		backslashes = 0
	}
	return len(text)
}

// bracketEnd is behind the bracket that closes the one at start, with what Go may write before one; start if there is
// no bracket. One that nothing closes reaches to the end of the text.
func bracketEnd(text string, start int) int {
	i := start
	for _, before := range []string{"&", "map[string]string", "map[string][]string", "[]string", "[]uint8", "[]byte", "map"} {
		if rest := strings.TrimPrefix(text[i:], before); len(rest) < len(text)-i && rest != "" && strings.IndexByte("{[m", rest[0]) >= 0 {
			i = len(text) - len(rest)
		}
	}
	if i >= len(text) || strings.IndexByte("{[(", text[i]) < 0 {
		return start
	}
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// plainEnd is where a value without quotes ends.
func (f field) plainEnd(start int) int {
	text := f.text
	switch {
	case f.quoted && !f.encoded:
		return start + indexAny(text[start:], ",}] \t\r\n\\")
	case f.encoded:
		return f.encodedEnd(start)
	case f.family == header && f.separator == ':':
		return headerEnd(text, start)
	case f.family == header:
		if end := start + indexAny(text[start:], " \t\r\n\""); end < len(text) && isScheme(text[start:end]) {
			return end + 1 + indexAny(text[end+1:], " \t\r\n\"&")
		}
	}
	end := start
	for end < len(text) && !f.endsAt(start, end) {
		end++
	}
	return start + len(strings.TrimRight(text[start:end], ")]}>,.;!?"))
}

// endsAt says whether a plain value ends before the byte at i. What follows decides where the byte could be a part of the
// value: another field does end it.
func (f field) endsAt(start, i int) bool {
	text := f.text
	switch c := text[i]; c {
	case '\r', '\n', '<':
		return true
	case '\\':
		return i+1 < len(text) && strings.IndexByte("nrt\"'u", text[i+1]) >= 0
	case '"', '\'', '`':
		return f.insideQuote(c)
	case ' ', '\t':
		return f.endsAtBlank(start, i)
	case '&':
		return f.start > 0 && strings.IndexByte("?&#", text[f.start-1]) >= 0 || fieldFollows(text, i+1)
	case '#':
		return f.start > 0 && strings.IndexByte("?&", text[f.start-1]) >= 0
	case ';', ',':
		return fieldFollows(text, i+1) || i+1 == len(text) || blank(text[i+1]) && !f.wholeLine(start)
	case '}', ']', ')':
		return f.withinBraces() && (i+1 == len(text) || strings.IndexByte(" \t\r\n}]),:;", text[i+1]) >= 0)
	}
	return false
}

func (f field) endsAtBlank(start, i int) bool {
	switch {
	case f.separator == ':' && start == f.after && f.withinBraces(): // what Go prints: a value goes on up to the next name
		return fieldFollows(f.text, i+1)
	case f.wholeLine(start):
		return fieldFollows(f.text, i+1) || strings.HasPrefix(f.text[i+1:], "#")
	default:
		return true
	}
}

// wholeLine says whether a value may hold blanks: after a colon and a blank at the start of a line, or if it is a password;
// and in an environment.
func (f field) wholeLine(start int) bool {
	if f.separator == ':' {
		return start > f.after && (f.family == password || f.atLineStart())
	}
	return f.atLineStart() && upper(f.text[f.start]) && f.separator == '='
}

// fieldFollows says whether a name with a separator stands at i, after blanks.
func fieldFollows(text string, i int) bool {
	for i < len(text) && (blank(text[i]) || strings.IndexByte("\"'\\", text[i]) >= 0) {
		i++
	}
	end := i
	for end < len(text) && end-i < longestName && (nameByte(text[end]) || text[end] == '[' || text[end] == ']') {
		end++
	}
	for end < len(text) && strings.IndexByte("\"'\\", text[end]) >= 0 {
		end++
	}
	return end > i && end < len(text) && (text[end] == '=' || text[end] == ':' || text[end] == ';' && text[i-1] == '&')
}

// encodedEnd is where a percent-encoded value ends.
func (f field) encodedEnd(start int) int {
	for i := start; i < len(f.text); i++ {
		switch f.text[i] {
		case '&', ' ', '\t', '\r', '\n', '"', '\'', '<':
			return i
		case '%':
			if i+2 < len(f.text) {
				switch strings.ToUpper(f.text[i+1 : i+3]) {
				case "26", "22", "7D", "0A", "0D", "3B":
					return i
				}
			}
		}
	}
	return len(f.text)
}

// headerEnd is where the value of a header ends: with its line, with the quote or the bracket around it. Quoted parameters,
// such as those of Digest, belong to it.
func headerEnd(text string, start int) int {
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '\r', '\n', ']', '}', '<', '`':
			return i
		case '\\':
			if i+1 >= len(text) || text[i+1] == 'n' || text[i+1] == 'r' {
				return i
			}
			if opened, ok := quoteAt(text, i); ok {
				if text[i-1] != '=' {
					return i
				}
				i = min(opened.closing(text)+opened.backslashes, len(text)-1)
			}
		case '"', '\'':
			if text[i-1] != '=' {
				return i
			}
			i = min(quote{after: i + 1, char: text[i]}.closing(text), len(text)-1)
		}
	}
	return len(text)
}

func isScheme(word string) bool {
	for _, scheme := range []string{"bearer", "basic", "digest", "token", "negotiate", "ntlm", "apikey", "hmac", "aws4-hmac-sha256", "dpop", "hoba"} {
		if strings.EqualFold(strings.TrimRight(word, ":"), scheme) {
			return true
		}
	}
	return false
}

// prose says whether what follows a name and a colon is a sentence, as in a wrapped error: "read the token: it has
// expired". Never after the name of a password.
func (f field) prose(start int) bool {
	if f.separator != ':' || f.quoted || f.encoded || start == f.after || f.family == password {
		return false
	}
	first, rest := word(f.text[start:])
	if isScheme(first) || !plainWord(first) {
		return false
	}
	second, _ := word(rest)
	switch {
	case second != "":
		return lower(second[0]) && !strings.ContainsAny(second, "=:")
	default:
		return len(first) <= 12
	}
}

// word is the first word of a text without the punctuation behind it, and what follows.
func word(text string) (first, rest string) {
	end := indexAny(text, " \t\r\n\"'")
	rest = strings.TrimLeft(text[end:], " \t")
	return strings.TrimRight(text[:end], ",.;:!?)"), rest
}

func plainWord(text string) bool {
	for i := range len(text) {
		if !lower(text[i]) && text[i] != '\'' && text[i] != '-' {
			return false
		}
	}
	return text != "" && len(text) <= 16
}

func indexAny(text, any string) int {
	if end := strings.IndexAny(text, any); end >= 0 {
		return end
	}
	return len(text)
}

package secret

import "strings"

// farthestNeighbour is how far from a value the name is looked for that makes it secret, in bytes.
const farthestNeighbour = 256

// besides is the family of a value whose own name is harmless and whose neighbour names it: {"name":"DB_PASSWORD","value":"…"} as containers and
// forms have it, <input name="password" value="…">, and the private parts of a JSON web key, which are one letter each.
func (f field) besides(name string) family {
	switch {
	case f.encoded || f.separator != ':' && f.separator != '=':
		return harmless
	case strings.EqualFold(name, "value"):
		around := f.around()
		for _, naming := range []string{"name", "key"} {
			if found := familyOf(neighbour(around, naming)); found != harmless && found != inQuery && found != counted && found != path {
				return credential
			}
		}
		if strings.EqualFold(neighbour(around, "type"), "password") {
			return password
		}
	case f.quoted && keyPart(name) && neighbour(f.around(), "kty") != "":
		return credential
	}
	return harmless
}

// keyPart says whether a JSON web key has a private part of that name (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
func keyPart(name string) bool {
	switch name {
	case "d", "p", "q", "dp", "dq", "qi", "k":
		return true
	}
	return false
}

// around is the object, the tag or the item of a list in which the field stands.
func (f field) around() string {
	before := f.text[max(0, f.start-farthestNeighbour):f.start]
	if opened := strings.LastIndexAny(before, "{}<>"); opened >= 0 {
		before = before[opened+1:]
	} else if item := strings.LastIndex(before, "- "); item >= 0 {
		before = before[item+2:]
	}
	behind := f.text[f.after:min(len(f.text), f.after+farthestNeighbour)]
	if closed := strings.IndexAny(behind, "{}<>"); closed >= 0 {
		behind = behind[:closed]
	} else if item := strings.Index(behind, "\n- "); item >= 0 {
		behind = behind[:item]
	}
	return before + "\x00" + behind
}

// neighbour is the value of the first field of that name, empty where there is none.
func neighbour(around, name string) string {
	for from := 0; ; {
		at := strings.Index(strings.ToLower(around[from:]), name)
		if at < 0 {
			return ""
		}
		start := from + at
		from = start + len(name)
		if start > 0 && nameByte(around[start-1]) {
			continue
		}
		rest := strings.TrimLeft(around[from:], "\\\"' \t")
		if rest == "" || rest[0] != ':' && rest[0] != '=' {
			continue
		}
		rest = strings.TrimLeft(rest[1:], "\\\"' \t")
		end := 0
		for end < len(rest) && nameByte(rest[end]) {
			end++
		}
		return rest[:end]
	}
}

// formPart finds what a part of a multipart form holds whose name is secret: what stands behind its headers, up to the next boundary.
func formPart(text string, i int) (from, to int) {
	const naming = "name"
	if text[i] != '=' || i < len(naming) || !strings.EqualFold(text[i-len(naming):i], naming) || i > len(naming) && nameByte(text[i-len(naming)-1]) {
		return 0, 0
	}
	line := text[strings.LastIndexByte(text[:i], '\n')+1 : i]
	if !strings.Contains(strings.ToLower(line), "form-data") {
		return 0, 0
	}
	opened, ok := quoteAt(text, i+1)
	if !ok {
		return 0, 0
	}
	end := opened.closing(text)
	if found := familyOf(text[opened.after:end]); found == harmless || found == inQuery {
		return 0, 0
	}
	for _, blankLine := range []string{"\r\n\r\n", "\n\n", `\r\n\r\n`, `\n\n`} {
		headers := strings.Index(text[end:], blankLine)
		if headers < 0 {
			continue
		}
		from = end + headers + len(blankLine)
		if boundary := strings.Index(text[from:], blankLine[:len(blankLine)/2]+"--"); boundary >= 0 {
			return from, from + boundary
		}
		return from, len(text)
	}
	return 0, 0
}

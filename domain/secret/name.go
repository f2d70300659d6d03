package secret

import "bytes"

// family says how the value of a secret name looks in a text.
type family int

const (
	harmless   family = iota
	password          // any text up to the end of its line
	credential        // one word
	header            // several words and quoted parameters, up to the end of the line
	counted           // secret unless it is a number, such as tokens
	path              // secret unless it is a path, such as PWD
	inQuery           // secret only as a parameter of a URL, such as auth
)

// lastWords are words that make a name secret when they end it.
var lastWords = map[string]family{
	"password": password, "passwords": password, "passwd": password, "passphrase": password, "pwd": path, "pass": inQuery,
	"secret": credential, "secrets": credential, "token": credential, "tokens": counted, "jwt": credential, "jwe": credential,
	"credential": credential, "credentials": credential, "apikey": credential, "otp": credential, "totp": credential,
	"csrf": credential, "xsrf": credential, "authorization": header, "cookie": header, "cookies": header, "auth": inQuery,
	"code": inQuery, "sig": inQuery, "assertion": credential,
}

// lastPairs are two or three words, run together, that make a name secret when they end it.
var lastPairs = map[string]family{
	"privatekey": credential, "apikey": credential, "accesskey": credential, "secretkey": credential, "signingkey": credential,
	"encryptionkey": credential, "masterkey": credential, "hmackey": credential, "accountkey": credential, "stripecustomer": credential,
	"stripecustomerid": credential, "paymentreference": credential, "paymentreferences": credential, "stripesignature": header,
	"webhooksignature": header, "hubsignature": header, "amzsignature": credential, "googsignature": credential,
	"amzcredential": credential, "websocketprotocol": header, "devicecode": credential, "authorizationcode": credential,
	"recoverycode": credential, "recoverycodes": credential, "backupcode": credential, "backupcodes": credential,
	"codeverifier": credential, "samlresponse": credential, "gpuaassession": credential,
	"passphrase": password, "secretkeybase": credential,
}

// innocentPairs end in a secret word and are none.
var innocentPairs = map[string]bool{
	"pagetoken": true, "nexttoken": true, "continuationtoken": true, "continuetoken": true, "synctoken": true, "fencingtoken": true,
}

// endings make a word secret that was run together, as in PGPASSWORD.
var endings = []struct {
	text string
	family
}{
	{"password", password}, {"passwd", password}, {"passphrase", password}, {"secret", credential}, {"token", credential},
	{"apikey", credential}, {"privatekey", credential}, {"secretkey", credential}, {"authorization", header}, {"cookie", header},
}

// qualifiers may follow a secret name without making it another thing: password_hash is one as password is.
var qualifiers = map[string]bool{
	"hash": true, "hashed": true, "value": true, "plain": true, "plaintext": true, "raw": true, "pem": true, "base64": true, "b64": true,
	"hex": true, "confirmation": true, "confirm": true, "again": true, "new": true, "old": true, "current": true, "previous": true,
	"hint": true, "sha256": true, "1": true, "2": true, "salt": true, "encrypted": true,
}

const (
	// sshPrivateKey makes a name secret wherever it stands in it.
	sshPrivateKey = "sshprivatekey"

	longestName = 80
	mostWords   = 24
)

// Name says whether a field of that name holds a secret, whatever its value looks like. Case, dashes and camelCase do
// not matter.
func Name(name string) bool {
	switch familyOf(name) {
	case harmless, counted, inQuery:
		return false
	default:
		return true
	}
}

// familyOf reads a name word by word, without allocating.
func familyOf(name string) family {
	if len(name) > longestName {
		name = name[len(name)-longestName:]
	}
	var (
		letters [longestName]byte
		starts  [mostWords + 1]int
		length  int
		words   int
	)
	open := false
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !alphanumeric(c) {
			open = false
			continue
		}
		if open && upper(c) && (!upper(name[i-1]) || i+1 < len(name) && lower(name[i+1])) {
			open = false
		}
		if !open {
			if words == mostWords { // only the end of a name matters
				copy(starts[:], starts[1:words])
				words--
			}
			starts[words], open = length, true
			words++
		}
		if upper(c) {
			c += 'a' - 'A'
		}
		letters[length] = c
		length++
	}
	if length >= len(sshPrivateKey) && bytes.Contains(letters[:length], []byte(sshPrivateKey)) {
		return credential
	}
	for words > 1 && qualifiers[string(letters[starts[words-1]:length])] {
		words--
		length = starts[words]
	}
	if words == 0 {
		return harmless
	}
	for last := 2; last <= 3 && last <= words; last++ {
		pair := letters[starts[words-last]:length]
		if innocentPairs[string(pair)] {
			return harmless
		}
		if found := lastPairs[string(pair)]; found != harmless {
			return found
		}
	}
	word := letters[starts[words-1]:length]
	if found := lastWords[string(word)]; found != harmless {
		return found
	}
	for _, ending := range endings {
		if len(word) > len(ending.text) && string(word[len(word)-len(ending.text):]) == ending.text {
			return ending.family
		}
	}
	return harmless
}

func upper(c byte) bool        { return 'A' <= c && c <= 'Z' }
func lower(c byte) bool        { return 'a' <= c && c <= 'z' }
func digit(c byte) bool        { return '0' <= c && c <= '9' }
func alphanumeric(c byte) bool { return upper(c) || lower(c) || digit(c) }
func blank(c byte) bool        { return c == ' ' || c == '\t' }
func nameByte(c byte) bool {
	return alphanumeric(c) || c == '_' || c == '-' || c == '.'
}

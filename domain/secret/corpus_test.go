package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/secret"
)

// What the corpus hides; no other part of a text looks like one of them.
const (
	word     = "hunter2"
	jwt      = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJ1c2VyLTEiLCJleHAiOjE3MDB9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."
	jwe      = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZ.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9o.XFBoMYUZodetZdvTiFvSkQ"
	opaque   = "Zm9vYmFyYmF6cXV4MTIzNDU2"
	keyBody  = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
)

// The keys of Stripe are put together here, so that no scanner of repositories takes the corpus for a leak.
var (
	stripeSecret     = "sk_live_" + "51HabcdefghijKLmnop"
	stripeRestricted = "rk_test_" + "51HabcdefghijKLmnop"
	stripePublic     = "pk_live_" + "51HabcdefghijKLmnop"
	stripeWebhook    = "whsec_" + "abcdefghijklMN123"
	stripeCustomer   = "cus_" + "NffrFeUfNV2Hib"
	stripePayment    = "pi_" + "3MtwBwLkdIwHu7ix28a3tqPa"
	stripeClient     = stripePayment + "_secret_" + "YrKJUKribcBjcG8HVhfZluoGH"
	stripeCheckout   = "cs_test_" + "a1b2c3d4e5f6g7h8i9j0"
	pem              = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + keyBody + "\nAAAAMwAAAAtzc2gtZWQyNTUxOQ\n-----END OPENSSH PRIVATE KEY-----"
)

type account struct {
	Name, Password string
	AccessToken    string
	Age            int
}

// corpus is a format each: a text, what must be gone from it, and what must still be there.
var corpus = []struct {
	name, text string
	gone       string
	kept       []string
}{
	// headers
	{"bearer", "Authorization: Bearer " + opaque, opaque, []string{"Authorization:"}},
	{"bearer without a header", "sent Bearer " + opaque + " to the host", opaque, []string{"sent Bearer", "to the host"}},
	{"bearer in capitals", "BEARER " + opaque, opaque, nil},
	{"basic", "authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz", nil},
	{"basic in a sentence", "got Basic dXNlcjpwYXNz1 from it", "dXNlcjpwYXNz1", []string{"from it"}},
	{"digest", `Authorization: Digest username="bob", realm="x", nonce="` + opaque + `", response="` + word + `"`, word, nil},
	{"token scheme", "Authorization: Token " + opaque, opaque, nil},
	{"token scheme of words", "authorization: token abcdef", "abcdef", nil},
	{"aws", "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/2026/us, SignedHeaders=host, Signature=fe5f80f77d5fa3beca038a248ff027", "fe5f80f77d", nil},
	{"aws without a header", "AWS4-HMAC-SHA256 Credential=AKIA/2026/us, Signature=fe5f80f77d5fa3beca038a248ff027", "fe5f80f77d", nil},
	{"negotiate", "Proxy-Authorization: Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa", "YIIJvwYGKwYBBQUC", nil},
	{"api key header", "X-Api-Key: " + opaque, opaque, []string{"X-Api-Key"}},
	{"cookie", "Cookie: theme=dark; gpuaas_session=" + opaque + "; lang=en", opaque, []string{"Cookie:"}},
	{"set-cookie", "Set-Cookie: gpuaas_session=" + opaque + "; Path=/; HttpOnly", opaque, nil},
	{"session cookie alone", "gpuaas_session=" + opaque + "; Path=/", opaque, []string{"gpuaas_session=", "Path=/"}},
	{"websocket protocol", "Sec-WebSocket-Protocol: gpuaas.terminal.v1, " + opaque, opaque, nil},
	{"stripe signature", "Stripe-Signature: t=1492774577,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff", "5257a869e7", nil},
	{"csrf", "X-CSRF-Token: " + opaque, opaque, nil},
	{"headers as lines", "GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer " + word + "\r\nAccept: */*\r\n", word, []string{"Host: a.example", "Accept: */*"}},
	{"headers as Go prints them", "map[Accept:[*/*] Authorization:[Bearer " + word + "] Host:[a.example]]", word, []string{"Accept:[*/*]", "Host:[a.example]"}},
	{"curl", `curl -H 'Authorization: Bearer ` + word + `' https://a.example/x`, word, []string{"https://a.example/x"}},
	{"password of mysql", "exec: mysqldump -h db -uroot -p" + word + " gpuaas", word, []string{"-uroot", " gpuaas"}},
	{"quoted password of mysql", "mysql -p'" + word + "' -e 'SELECT 1'", word, []string{"SELECT 1"}},
	{"password of sshpass", "sshpass -p " + word + " ssh root@node-1", word, []string{"ssh root@node-1"}},
	{"password of redis", "redis-cli -h cache -a " + word + " PING", word, []string{" PING"}},
	{"curl user", "curl -u bob:" + word + " https://a.example/x", word, []string{"-u bob:", "https://a.example/x"}},

	// what a neighbour names
	{"multipart form", "--b1\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n" + word + "\r\n--b1\r\nContent-Disposition: form-data; name=\"city\"\r\n\r\nBern\r\n--b1--", word, []string{"Bern", `name="city"`}},
	{"multipart form with a type", "--b1\nContent-Disposition: form-data; name=\"api_token\"\nContent-Type: text/plain\n\n" + word + "\n--b1--", word, []string{"--b1--"}},
	{"environment of a container", `{"env":[{"name":"CITY","value":"Bern"},{"name":"DB_PASSWORD","value":"` + word + `"},{"name":"PORT","value":"80"}]}`, word, []string{"Bern", `"80"`, "DB_PASSWORD"}},
	{"value before its name", `{"value":"` + word + `","name":"API_TOKEN"}`, word, []string{"API_TOKEN"}},
	{"key and value", `{"key": "client_secret", "value": "` + word + `", "enabled": true}`, word, []string{`"enabled": true`}},
	{"yaml of a container", "env:\n- name: CITY\n  value: Bern\n- name: DB_PASSWORD\n  value: " + word + "\n- name: PORT\n  value: 80\n", word, []string{"Bern", "80"}},
	{"html form", `<form><input name="city" value="Bern"><input name="password" value="` + word + `"></form>`, word, []string{"Bern", "</form>"}},
	{"html password field", `<input type="password" id="x" value="` + word + `">`, word, []string{`id="x"`}},
	{"private web key", `{"kty":"EC","crv":"P-256","x":"public","d":"` + opaque + `"}`, opaque, []string{`"x":"public"`}},
	{"symmetric web key", `{"k":"` + opaque + `","kty":"oct","alg":"HS256"}`, opaque, []string{"HS256"}},
	{"putty", "PuTTY-User-Key-File-3: ssh-ed25519\nComment: mine\nPrivate-Lines: 1\n" + opaque + "\nPrivate-MAC: 00\n", opaque, []string{"Comment: mine"}},
	{"encoded twice", "next=https%253A%252F%252Fa.example%253Fpassword%253D" + word + "&lang=en", word, []string{"lang=en"}},
	{"json on two lines", "{\"password\":\n\"" + word + "\",\n\"age\":3}", word, []string{`"age":3`}},
	{"pass phrase", "pass_phrase: " + word, word, nil},
	{"rails", "SECRET_KEY_BASE=" + word, word, nil},
	{"stripe refund", "refunded by re_" + "3MtwBwLkdIwHu7ix28a3tqPa today", "re_3Mtw", []string{"today"}},

	// JSON
	{"json", `{"user":"bob","password":"` + word + `","age":3}`, word, []string{`"user":"bob"`, `"age":3}`}},
	{"json with blanks", "{\n  \"password\" : \"" + word + "\",\n  \"age\": 3\n}", word, []string{`"age": 3`}},
	{"json number", `{"pin":1,"api_token":12345678,"x":1}`, "12345678", []string{`"x":1}`}},
	{"json with an escaped quote", `{"password":"a\"` + word + `","age":3}`, word, []string{`"age":3}`}},
	{"json with a backslash at the end", `{"password":"` + word + `\\","age":3}`, word, []string{`"age":3}`}},
	{"json list", `{"Authorization":["Bearer ` + word + `"],"age":3}`, word, []string{`"age":3}`}},
	{"json object", `{"credentials":{"a":"` + word + `","b":[1]},"age":3}`, word, []string{`"age":3}`}},
	{"json cut off", `{"password":"` + word, word, nil},
	{"json within json", `{"body":"{\"password\":\"` + word + `\",\"age\":3}"}`, word, []string{`\"age\":3}`}},
	{"json within json within json", `{"a":"{\"b\":\"{\\\"id_token\\\":\\\"` + word + `\\\",\\\"age\\\":3}\"}"}`, word, []string{`age\\\":3`}},
	{"escaped quote within json within json", `{"body":"{\"password\":\"a\\\"` + word + `\",\"age\":3}"}`, word, []string{`\"age\":3}`}},
	{"camel case", `{"accessToken":"` + word + `","refreshToken":"` + word + `","idToken":"` + word + `"}`, word, []string{"accessToken", "idToken"}},
	{"pascal case", `{"AccessToken":"` + word + `"}`, word, nil},
	{"capitals", `{"PASSWORD_HASH":"` + word + `"}`, word, nil},
	{"kebab case", `{"client-secret":"` + word + `"}`, word, nil},
	{"json of javascript", `{password: '` + word + `', age: 3}`, word, []string{"age: 3"}},
	{"private key in json", `{"ssh_private_key_pem":"` + strings.ReplaceAll(pem, "\n", `\n`) + `","age":3}`, keyBody, []string{`"age":3}`}},
	{"customer in json", `{"stripe_customer_id":"42-bob","payment_reference":"42-bob"}`, "42-bob", nil},

	// URLs and forms
	{"query", "GET /x?token=" + word + "&page=2", word, []string{"page=2"}},
	{"auth in a query", "wss://a.example/ws?auth=" + word + "&page=2", word, []string{"page=2"}},
	{"fragment", "https://a.example/cb#access_token=" + word + "&token_type=Bearer&expires_in=3", word, []string{"token_type=Bearer", "expires_in=3"}},
	{"oauth code", "/callback?code=SplxlOBeZQQYbYS6WxSbIA&state=xyz", "SplxlOBeZQQYbYS6WxSbIA", []string{"state=xyz"}},
	{"userinfo", "postgres://gpuaas:" + word + "@db:5432/x?sslmode=require", word, []string{"postgres://gpuaas:", "@db:5432/x?sslmode=require"}},
	{"userinfo without a user", "redis://:" + word + "@cache:6379/0", word, []string{"@cache:6379/0"}},
	{"userinfo with an at", "amqp://bob:a@" + word + "@mq:5672/", word, []string{"@mq:5672/"}},
	{"userinfo with a slash", "postgres://bob:a/" + word + "@db:5432/x", word, []string{"@db:5432/x"}},
	{"token as the user", "https://" + opaque + "@git.example/x.git", opaque, []string{"@git.example/x.git"}},
	{"url in a url", "/login?next=https%3A%2F%2Fbob%3A" + word + "%40a.example%2F", word, []string{"a.example"}},
	{"query in a query", "/login?next=https%3A%2F%2Fa.example%2F%3Ftoken%3D" + word + "%26page%3D2", word, []string{"page%3D2"}},
	{"header in a query", "/log?line=Authorization%3A%20Bearer%20" + word + "&page=2", word, []string{"page=2"}},
	{"json in a query", "/x?q=%7B%22password%22%3A%22" + word + "%22%2C%22age%22%3A3%7D", word, []string{"age"}},
	{"form", "grant_type=password&username=bob&password=" + word + "&client_secret=" + word, word, []string{"username=bob"}},
	{"form that begins with it", "password=" + word + "&username=bob", word, []string{"username=bob"}},
	{"form with odd characters", "password=a,b;c)" + word + "&username=bob", word, []string{"username=bob"}},
	{"form with brackets", "user[password]=" + word + "&user[name]=bob", word, []string{"user[name]=bob"}},
	{"form with encoded brackets", "user%5Bpassword%5D=" + word + "&x=1", word, []string{"x=1"}},
	{"ampersands as json escapes them", `{"url":"/x?a=1\u0026token=` + word + `\u0026page=2"}`, word, []string{"page=2"}},
	{"ampersands as html escapes them", "/x?a=1&amp;token=" + word + "&amp;page=2", word, []string{"page=2"}},
	{"presigned", "https://s3.example/x?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=fe5f80f77d5fa3&X-Amz-Date=2026", "fe5f80f77d5fa3", []string{"X-Amz-Date=2026"}},
	{"multipart", "Content-Disposition: form-data; name=\"x\"\r\n\r\n" + jwt + "\r\n--b", jwt, []string{"form-data"}},

	// tokens and keys wherever they stand
	{"jwt", "before " + jwt + " after", jwt, []string{"before ", " after"}},
	{"jwt in a sentence", "The token " + jwt + ", which", jwt, []string{", which"}},
	{"unsigned jwt", unsigned, unsigned, nil},
	{"jwe", "x=" + jwe + " after", "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9o", []string{" after"}},
	{"jwt cut off", "before eyJhbGciOiJSUzI1NiIsImtpZCI6IjEi", "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEi", []string{"before "}},
	{"jwt in base64", "data " + base64.StdEncoding.EncodeToString([]byte(jwt)), base64.StdEncoding.EncodeToString([]byte(jwt)), []string{"data "}},
	{"json in base64", base64.StdEncoding.EncodeToString([]byte(`{"password":"` + word + `"}`)), base64.StdEncoding.EncodeToString([]byte(`{"password":"` + word))[:20], nil},
	{"header in base64", base64.StdEncoding.EncodeToString([]byte("Bearer " + jwt)), base64.StdEncoding.EncodeToString([]byte("Bearer " + jwt))[:30], nil},
	{"pem in base64", "data: " + base64.StdEncoding.EncodeToString([]byte(pem)), base64.StdEncoding.EncodeToString([]byte(pem))[:60], []string{"data: "}},
	{"pem", "before\n" + pem + "\nafter", keyBody, []string{"before", "after"}},
	{"pem of rsa", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----", "MIIEpAIBAAKCAQEA", nil},
	{"pem encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END ENCRYPTED PRIVATE KEY-----", "MIIEpAIBAAKCAQEA", nil},
	{"pem cut off", "-----BEGIN EC PRIVATE KEY-----\nMIIEpAIBAAKCAQEA", "MIIEpAIBAAKCAQEA", nil},
	{"pem in a url", "key=-----BEGIN+PRIVATE+KEY-----%0AMIIEpAIBAAKCAQEA%0A-----END+PRIVATE+KEY-----&x=1", "MIIEpAIBAAKCAQEA", []string{"x=1"}},
	{"pgp", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----", "lQOYBF", nil},
	{"body of an openssh key", "it begins with " + keyBody, keyBody, []string{"it begins with"}},
	{"terminal token", "saw " + secret.TerminalTokenPrefix + opaque + " there", opaque, []string{"saw ", " there"}},
	{"personal access token", "saw " + secret.PersonalTokenPrefix + opaque, opaque, nil},
	{"service account token", "saw " + secret.ServiceAccountTokenPrefix + opaque, opaque, nil},
	{"service account secret", "saw " + secret.ServiceAccountSecretPrefix + opaque, opaque, nil},
	{"enrolment token", "saw " + secret.EnrolTokenPrefix + opaque, opaque, nil},
	{"invitation", "https://a.example/invitations/" + secret.InvitationPrefix + opaque, opaque, nil},
	{"our token inside a word", "x" + secret.PersonalTokenPrefix + opaque, opaque, nil},
	{"our token in quotes", fmt.Sprintf("%q", secret.PersonalTokenPrefix+opaque), opaque, nil},
	{"stripe secret key", "with " + stripeSecret, stripeSecret, []string{"with "}},
	{"stripe restricted key", stripeRestricted, stripeRestricted, nil},
	{"stripe public key", stripePublic, stripePublic, nil},
	{"stripe webhook secret", stripeWebhook, stripeWebhook, nil},
	{"stripe customer", "No such customer: '" + stripeCustomer + "'", stripeCustomer, []string{"No such customer"}},
	{"stripe payment in small letters", "charge " + strings.ToLower(stripePayment) + " failed", strings.ToLower(stripePayment), []string{"charge ", " failed"}},
	{"stripe client secret in small letters", strings.ToLower(stripeClient), "yrkjukribcbjcg8hvhfzluogh", nil},
	{"stripe payment", "https://api.stripe.com/v1/payment_intents/" + stripePayment, stripePayment, nil},
	{"stripe client secret", stripeClient, "YrKJUKribcBjcG8HVhfZluoGH", nil},
	{"stripe checkout", "/v1/checkout/sessions/" + stripeCheckout, stripeCheckout, nil},
	{"github", "ghp_" + "abcdefghijklmnopqrst1234", "abcdefghijklmnopqrst1234", nil},
	{"vault", "hvs." + "CAESIJabcdefghijklmnop", "CAESIJabcdefghijklmnop", nil},
	{"hash of a password", "bob:$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy:1", "N9qo8uLOickgx2ZMRZoMye", []string{"bob:"}},
	{"argon2", "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b27NA", "RdescudvJCsgt3ub", nil},

	// configuration
	{"dsn of libpq", "host=db user=gpuaas password=" + word + " dbname=x", word, []string{"user=gpuaas", "dbname=x"}},
	{"dsn of libpq in quotes", "host=db password='a " + word + "' dbname=x", word, []string{"dbname=x"}},
	{"dsn of mysql", "bob:" + word + "@tcp(db:3306)/x", word, []string{"bob:", "@tcp(db:3306)/x"}},
	{"dsn of ado", "Server=db;User Id=bob;Password=" + word + ";Database=x", word, []string{"User Id=bob", "Database=x"}},
	{"environment", "LANG=C\nDB_PASSWORD=" + word + "\nHOME=/root", word, []string{"LANG=C", "HOME=/root"}},
	{"environment with blanks", "export DB_PASSWORD=a " + word + "\nHOME=/root", word, []string{"HOME=/root"}},
	{"environment of libpq", "ran PGPASSWORD=" + word + " psql -h db", word, []string{"ran ", "psql -h db"}},
	{"environment in a list", `["LANG=C","GPUAAS_PROBE_SECRET=` + word + `","HOME=/root"]`, word, []string{"LANG=C", "HOME=/root"}},
	{"environment as Go prints it", "[LANG=C GPUAAS_ID_SECRET=" + word + " HOME=/root]", word, []string{"LANG=C", "HOME=/root"}},
	{"yaml", "user: bob\npassword: a " + word + " # why\nage: 3", word, []string{"user: bob", "age: 3"}},
	{"yaml indented", "db:\n  password: " + word + "\n  host: db", word, []string{"host: db"}},
	{"yaml list", "- password: a " + word + "\n- age: 3", word, []string{"age: 3"}},
	{"yaml block", "private_key: |\n  line\n  " + word + "\nage: 3", word, []string{"age: 3"}},
	{"yaml map", "credentials:\n  a: " + word + "\n  b: 3\nage: 3", word, []string{"age: 3"}},
	{"toml", `client_secret = "` + word + `"`, word, nil},
	{"ruby", `{:password => "` + word + `"}`, word, nil},
	{"logfmt", `level=info token=` + word + ` user=bob`, word, []string{"level=info", "user=bob"}},
	{"logfmt in quotes", `level=info authorization="Bearer ` + word + `" user=bob`, word, []string{"user=bob"}},
	{"logfmt with a scheme", `level=info authorization=Bearer ` + word + ` user=bob`, word, []string{"user=bob"}},
	{"flag", "psql --password " + word + " --host db", word, []string{"--host db"}},
	{"flag with an equals sign", "psql --password=" + word + " --host db", word, []string{"--host db"}},
	{"flag in a list", `["psql","--api-token","` + word + `","--host"]`, word, []string{`"--host"`}},
	{"sql", "ALTER ROLE bob WITH PASSWORD '" + word + "' LOGIN", word, []string{"ALTER ROLE bob", "LOGIN"}},
	{"xml", "<user>bob</user><password>" + word + "</password>", word, []string{"<user>bob</user>"}},

	// what Go prints
	{"struct", fmt.Sprintf("%+v", account{"bob", word, word, 3}), word, []string{"Name:bob", "Age:3"}},
	{"struct with blanks", fmt.Sprintf("%+v", account{"bob", "a " + word, "a " + word, 3}), word, []string{"Name:bob", "Age:3"}},
	{"pointer", fmt.Sprintf("%+v", &account{"bob", word, word, 3}), word, []string{"Name:bob", "Age:3"}},
	{"go syntax", fmt.Sprintf("%#v", account{"bob", word, word, 3}), word, []string{`Name:"bob"`, "Age:3"}},
	{"map", fmt.Sprint(map[string]string{"password": word, "user": "bob"}), word, []string{"user:bob"}},
	{"map in go syntax", fmt.Sprintf("%#v", map[string]string{"password": word, "user": "bob"}), word, []string{`"user":"bob"`}},
	{"map of lists in go syntax", fmt.Sprintf("%#v", map[string][]string{"Cookie": {word}, "user": {"bob"}}), word, []string{"bob"}},
	{"wrapped error", fmt.Errorf("dial: %w", errors.New("connect to postgres://gpuaas:"+word+"@db/x: refused")).Error(), word, []string{"dial: connect to", "refused"}},
	{"joined errors", errors.Join(errors.New("one"), errors.New("password="+word), errors.New("three")).Error(), word, []string{"one", "three"}},
	{"url error", (&url.Error{Op: "Get", URL: "https://a.example/x?token=" + word, Err: errors.New("refused")}).Error(), word, []string{"refused"}},
	{"quoted by go", fmt.Sprintf("%q", `{"password":"`+word+`","age":3}`), word, []string{"age"}},
	{"error with json", fmt.Errorf("the service said %s", `{"error":"x","refresh_token":"`+word+`"}`).Error(), word, []string{"the service said"}},
	{"password in a sentence", "login with password: " + word, word, []string{"login with"}},
	{"several lines", "one\ntwo Bearer " + opaque + "\nid_token: " + jwt + "\nfour", opaque, []string{"one\ntwo", "four"}},
	{"after an escaped line", `one\npassword=` + word + `\nfour`, word, []string{`\nfour`}},
	{"tab separated", "password:\t" + word + "\nx", word, nil},
}

func TestTextCutsSecretsOut(t *testing.T) {
	if len(corpus) < 60 {
		t.Fatalf("the corpus holds %d formats", len(corpus))
	}
	for _, one := range corpus {
		t.Run(one.name, func(t *testing.T) {
			if !strings.Contains(one.text, one.gone) {
				t.Fatalf("%q does not hold %q", one.text, one.gone)
			}
			check := func(what, clean string) {
				t.Helper()
				if strings.Contains(clean, one.gone) || !strings.Contains(clean, secret.Redacted) {
					t.Errorf("%s: %s\nbecame: %s", what, one.text, clean)
				}
			}
			clean := secret.Text(one.text)
			check("text", clean)
			for _, kept := range one.kept {
				if !strings.Contains(clean, kept) {
					t.Errorf("%s\nbecame: %s\nwithout %q", one.text, clean, kept)
				}
			}
			if again := secret.Text(clean); again != clean {
				t.Errorf("cleaned again, %s\nbecame: %s", clean, again)
			}
			// The same in whatever may carry a text.
			for what, carrier := range map[string]any{
				"error": fmt.Errorf("wrapped: %w", errors.New(one.text)), "map": map[string]string{"note": one.text}, "bytes": []byte(one.text),
				"struct": struct{ Note *string }{&one.text}, "list": []any{one.text}, "raw JSON": rawJSON(t, map[string]string{"note": one.text}),
			} {
				content, err := json.Marshal(secret.Sanitize("request", carrier))
				if err != nil {
					t.Fatal(err)
				}
				check(what, string(content))
			}
		})
	}
}

func rawJSON(t *testing.T, value any) json.RawMessage {
	t.Helper()
	content, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// innocent is what logs are read for.
var innocent = []string{
	`{"key":"auth.access_token_ttl_seconds","value":900}`,
	`{"name":"page_token","value":"abc"},{"name":"city","value":"Bern"}`,
	`{"name":"DB_PASSWORD"},{"name":"city","value":"Bern"}`,
	`{"d":"2026-11-26","k":3,"p":"x"}`,
	`Content-Disposition: form-data; name="city"`,
	`<input type="text" name="city" value="Bern">`,
	"alloc_mfrggzdfmztwq2lknnwg23tpob", "user_mfrggzdfmztwq2lknnwg23tpob", "price_mfrggzdfmztwq2lknnwg23tpob", "allocation/alloc_mfrggzdfmztwq2lknnwg23tpob",
	"8d7f1a9e-4c9b-4d2e-9b1a-0c5d1f2e3a4b", "K3JX7QK2M5TZ4V6W8Y9A2B3C4D", "corr-1", "4bf92f3577b34da6a3ce929d0e0e4736",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE4m2jXk5n0VbXJc8d6q0t1e2r3y4u5i6o7p8a9s0dfg bob@laptop",
	"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 bob@laptop", "SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDQLTjAAAABBBBCCCC",
	"sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t",
	"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----",
	"2026-01-05T09:30:00.000Z", "12:30:45.123", "2026-01-05 09:30:00+00", "1h30m", "127.0.0.1:8081", "[::1]:443", "a.example:443",
	"provisioning.releasing.completed", "billing.low_balance_warning", "payments.balance_credited", "billing.window_seconds",
	"auth.service_account_token_ttl_seconds=900", "rate_limit.terminal_token_requests_per_minute: 10", `{"key":"auth.service_account_token_ttl_seconds","version":3}`,
	"terminal.session_max_ttl_seconds", "allocation.isolation_model=full-reimage",
	"the token has expired", "The Authorization header must carry a bearer token.", "a bearer of news", "basic information about the node",
	"Bearer tokens are validated locally.", "Basic Authentication is off.", "The password is too short.", "read the token: it has expired",
	"parse token: illegal base64 data at input byte 4", "the secret: none was given", "token: expired", "verify the token: unknown kid", "cookie: missing",
	"token_missing", "token_invalid", "code=insufficient_balance", `{"code":"token_expired","message":"The token has expired."}`, "/x?code=sku_unavailable",
	"token_type=Bearer", "max_tokens=4096", `{"tokens":512}`, "token_count: 12", "password_changed_at=2026-01-05", "secret_name=db", "cookie_name: theme",
	"next_page_token=abc", "page_token: abc", "cursor=eyJpZCI6MTIzNDU2Nzg5MDEyMzQ1Nn0", "idempotency_key=7f9c", "public_key=AAAAC3Nza", "PWD=/home/bob",
	"GET /api/v1/allocations?limit=50&cursor=abc 200", "POST /realms/gpuaas/protocol/openid-connect/token 401", "https://a.example/x?a=1#part",
	"postgres://gpuaas@db:5432/x?sslmode=require", "ssh://git@git.example/x.git", "http://a.example:8080/x@y", "mailto:bob@example.com",
	`{"password":null,"token":"","secret":true}`, "password=", "has_password=true", "authorized_keys: 3 lines", "authorization_status=granted",
	"node-node_mfrggzdfmztwq2lknnwg23tpob", "SELECT password_hash FROM users WHERE id = $1", "pq: duplicate key value violates unique constraint \"users_pkey\" (SQLSTATE 23505)",
	"gpuaas_app", "gpuaas_test_template", "mkdir -p /var/lib/gpuaas", "ssh -p 2222 tenant@node-1", "docker run -p 8080:80 web", "mysql -p -u root", "cp -a /src /dst", "card_brand=visa", "card_mfrggzdfmztwq2lknnwg23tpoa", "re_run_of_2026_11_26_12", "src_lines_of_2026_and_2027", "ch_1", "pi_day", "evt_1NG8Du2eZvKYlo2CUI79vXWy", "the sha256 is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	"goroutine 1 [running]:\nmain.main()\n\t/src/main.go:12 +0x1d", "map[age:3 user:bob]", "{Name:bob Age:3}", "x:=3", "a == b", "50% of 100%", "100%3A", "-- ", "--", "=",
	":", "://", "%3", "eyJ", "a@tcp", "Sent 3 of 5 (60%): done", "the key: value pairs", "sigterm=15", "window 12: charged 1234 micros", "日本語: テキスト",
}

func TestTextKeepsWhatIsNoSecret(t *testing.T) {
	for _, text := range innocent {
		if clean := secret.Text(text); clean != text {
			t.Errorf("%s\nbecame: %s", text, clean)
		}
		if clean := secret.Sanitize("note", text); clean != text {
			t.Errorf("sanitized, %s\nbecame: %v", text, clean)
		}
	}
}

// Package swaggerui is Swagger UI as part of the program: its page shows the API's contract at /docs without asking any
// other host for anything. The assets are those of swagger-ui-dist (Apache-2.0), embedded by the module
// github.com/swaggest/swgui (Apache-2.0); page and start script are ours. It imports nothing else.
package swaggerui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/swaggest/swgui/v5/static"
)

// Path is where the page is; its assets are below.
const Path = "/docs"

// policy lets the page load from its own origin only, and run no script that stands in a page. Swagger UI's style sheet
// carries its pictures within itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed index.html start.js
var own embed.FS

// compressed are the assets of the distribution that the page needs.
var compressed = []string{"swagger-ui.css", "swagger-ui-bundle.js"}

// file is one asset, plain and, where the distribution has it so, compressed.
type file struct {
	kind, tag   string
	plain, gzip []byte
}

// Handlers answers what serves each path of the page.
func Handlers() (map[string]http.Handler, error) {
	handlers := map[string]http.Handler{}
	add := func(at, name string, plain, compressed []byte) {
		sum := sha256.Sum256(plain)
		handlers[at] = file{kind: kindOf(name), tag: `"` + hex.EncodeToString(sum[:8]) + `"`, plain: plain, gzip: compressed}
	}
	for _, name := range []string{"index.html", "start.js"} {
		content, err := own.ReadFile(name)
		if err != nil {
			return nil, err
		}
		at := Path + "/" + name
		if name == "index.html" {
			at = Path
		}
		add(at, name, content, nil)
	}
	icon, err := static.FS.ReadFile("favicon-32x32.png")
	if err != nil {
		return nil, err
	}
	add(Path+"/favicon-32x32.png", "favicon-32x32.png", icon, nil)
	for _, name := range compressed {
		packed, err := static.FS.ReadFile(name + ".gz")
		if err != nil {
			return nil, err
		}
		plain, err := unpack(packed)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
		add(Path+"/"+name, name, plain, packed)
	}
	return handlers, nil
}

func unpack(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// kindOf is not left to the system's table, which differs between machines.
func kindOf(name string) string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png",
	}[path.Ext(name)]
}

// ServeHTTP answers with the asset, compressed where the caller takes it so.
func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.kind)
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	content, tag := f.plain, f.tag
	if f.gzip != nil {
		header.Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			header.Set("Content-Encoding", "gzip")
			content, tag = f.gzip, strings.TrimSuffix(f.tag, `"`)+`-gzip"`
		}
	}
	header.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
)

// The page is four files without anything from outside. All that it shows is put in as
// text, by the script: nothing that a client has sent is ever part of the markup.
//
//go:embed page
var pageFiles embed.FS

// policy allows the page its own files and its events, and nothing else
// (https://www.w3.org/TR/CSP3/).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

var kindOfFile = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
}

// root answers / with the page if that is asked for and allowed, and a list of paths if not.
func (o *door) root(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if d := o.settings.Load(); !strings.Contains(r.Header.Get("Accept"), "text/html") || !d.Page && !d.Private {
		index(w, r)
		return
	}
	sendFile(w, r, "index.html")
}

// paged leaves to next what belongs to the page, where there is one.
func (o *door) paged(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d := o.settings.Load(); !d.Page && !d.Private {
			http.NotFound(w, r)
			return
		}
		next(w, r)
	}
}

func serveFile(w http.ResponseWriter, r *http.Request) { sendFile(w, r, r.PathValue("file")) }

// sendFile answers with a file of the page.
func sendFile(w http.ResponseWriter, r *http.Request, name string) {
	body, err := pageFiles.ReadFile("page/" + name)
	kind := kindOfFile[path.Ext(name)]
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	h := w.Header()
	protect(h)
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-cache") // the next version has another script
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body) // a caller that left needs no answer
}

// protect keeps other pages from using an answer.
func protect(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

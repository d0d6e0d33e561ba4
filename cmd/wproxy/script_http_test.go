package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHTTP sends one request on a connection of its own and prints the answer:
// the status line, the fields in lower case sorted by name, and the body. $COOKIE becomes
// the last cookie that the answer sets.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	s := stateOf(ts)
	background := args[0] == "-bg"
	if background {
		args = args[1:]
	}
	r := parseRequest(ts, args)
	if background {
		if s.answers == nil {
			s.answers = make(chan string, 100)
		}
		s.waited++
		go func() { s.answers <- r.roundTrip() }() // ends with its deadline
		return
	}
	answer := r.roundTrip()
	for line := range strings.Lines(answer) {
		if set, ok := strings.CutPrefix(line, "set-cookie: "); ok {
			cookie, _, _ := strings.Cut(strings.TrimSpace(set), ";")
			ts.Setenv("COOKIE", cookie)
		}
	}
	put(ts, answer)
}

// A scriptRequest is what http sends.
type scriptRequest struct {
	method, target string
	fields         []string
	body           []byte
	tls            *tls.Config
}

// parseRequest reads the arguments of http behind -bg.
func parseRequest(ts *testscript.TestScript, args []string) *scriptRequest {
	r := &scriptRequest{tls: &tls.Config{}}
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-cert":
			c, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]+".pem"), ts.MkAbs(args[1]+".key"))
			ts.Check(err)
			// Whatever CAs the other side names: a test may show the wrong one.
			r.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		case "-sni":
			r.tls.ServerName = args[1]
		default:
			ts.Fatalf("http %s?", args[0])
		}
		args = args[2:]
	}
	noNeg(ts, false, args, 2)
	r.method, r.target, r.fields = args[0], args[1], args[2:]
	if n := len(r.fields); n > 0 && strings.HasPrefix(r.fields[n-1], "@") {
		r.body = []byte(ts.ReadFile(r.fields[n-1][1:]))
		r.fields = r.fields[:n-1]
	}
	r.tls.RootCAs = x509.NewCertPool()
	if ca := stateOf(ts).cas["ca"]; ca != nil {
		r.tls.RootCAs = ca.Pool()
	}
	return r
}

// roundTrip is parseRequest, and then sends it.
func roundTrip(ts *testscript.TestScript, args []string) string {
	return parseRequest(ts, args).roundTrip()
}

// cmdAnswer waits for the answers to http -bg.
func cmdAnswer(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 0)
	s := stateOf(ts)
	if s.waited == 0 {
		ts.Fatalf("no request is under way")
	}
	all := ""
	for ; s.waited > 0; s.waited-- {
		all += <-s.answers
	}
	put(ts, all)
}

// dial connects to host. With TLS, it asks for the host of the request's own field.
func (r *scriptRequest) dial(u *url.URL) (net.Conn, error) {
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	if u.Scheme != "https" {
		return nc, nil
	}
	if r.tls.ServerName == "" {
		r.tls.ServerName = u.Hostname()
		for _, f := range r.fields {
			if name, value, _ := strings.Cut(f, ":"); strings.EqualFold(name, "host") {
				r.tls.ServerName = strings.TrimSpace(value)
			}
		}
	}
	c := tls.Client(nc, r.tls)
	if err := c.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// roundTrip returns the answer as text, or "error: ...".
func (r *scriptRequest) roundTrip() string {
	method, target, fields, body := r.method, r.target, r.fields, r.body
	u, err := url.Parse(target)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	c, err := r.dial(u)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	defer c.Close()

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, u.RequestURI())
	host := false
	for _, f := range fields {
		host = host || strings.HasPrefix(strings.ToLower(f), "host:")
		b.WriteString(f + "\r\n")
	}
	if !host {
		fmt.Fprintf(&b, "host: %s\r\n", u.Host)
	}
	if body != nil {
		fmt.Fprintf(&b, "content-length: %d\r\n", len(body))
	}
	b.WriteString("connection: close\r\n\r\n")
	b.Write(body)
	if _, err := c.Write(b.Bytes()); err != nil {
		return "error: " + err.Error() + "\n"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return "error: no answer: " + err.Error() + "\n"
	}
	return answerText(resp)
}

// answerText is an answer as text.
func answerText(resp *http.Response) string {
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s\n", resp.StatusCode, http.StatusText(resp.StatusCode))
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, v := range resp.Header[name] {
			fmt.Fprintf(&out, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	out.WriteString("\n")
	out.Write(answer)
	if len(answer) > 0 && answer[len(answer)-1] != '\n' {
		out.WriteString("\n")
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Trailer)) {
		fmt.Fprintf(&out, "trailer %s: %s\n", strings.ToLower(name), resp.Trailer.Get(name))
	}
	if err != nil {
		fmt.Fprintf(&out, "error: the answer is cut: %v\n", err)
	}
	return out.String()
}

// cmdReadme runs the console blocks of a Markdown file, or of the section of it that has
// this heading, in the script's directory: a line that begins with "$ " is a command for
// sh, what follows is what it prints, where a line "..." stands for any lines. A block
// whose first line names a file after its language (```toml wproxy.toml) makes that
// file. Addresses of the README, which are those of wproxy.toml, become those of the wproxy
// that runs.
func cmdReadme(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	replace := strings.NewReplacer("127.0.0.1:8080", ts.Getenv("HTTP_ADDR"), "127.0.0.1:9901", ts.Getenv("ADMIN_ADDR"),
		"./bin/wproxy", "wproxy")
	text := ts.ReadFile(args[0])
	if len(args) > 1 {
		text = markdownSection(text, args[1])
	}
	ran := 0
	for _, block := range markdownBlocks(text) {
		ran++
		if block.file != "" {
			ts.Check(os.WriteFile(ts.MkAbs(block.file), []byte(block.output), 0o600))
			continue
		}
		if dir, ok := strings.CutPrefix(block.command, "cd "); ok {
			ts.Check(ts.Chdir(dir))
			continue
		}
		command, want := replace.Replace(block.command), replace.Replace(block.output)
		deadline := time.Now().Add(patience)
		for {
			err := ts.Exec("sh", "-c", command+" 2>&1")
			got := ts.ReadFile("stdout")
			if (err != nil) == block.fails && matchText(want, got) {
				break
			}
			// An exchange is counted a moment after its answer has arrived.
			if !strings.Contains(command, "/metrics") || time.Now().After(deadline) {
				ts.Fatalf("$ %s\ngot:\n%s\nthe file says:\n%s\n%v", command, got, want, err)
			}
		}
	}
	if ran == 0 {
		ts.Fatalf("%s has no console lines (%v)", args[0], args[1:])
	}
}

// markdownSection returns what is under a heading, up to the next one; "" if there is no
// such heading.
func markdownSection(markdown, heading string) string {
	inside, fenced := false, false
	var b strings.Builder
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced && strings.HasPrefix(line, "#") {
			inside = strings.TrimSpace(strings.TrimLeft(line, "#")) == heading
			continue
		}
		if inside {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A markdownBlock is a command and its output, or a file and its content.
type markdownBlock struct {
	command, output string
	fails           bool   // the command is expected to end with a code other than 0
	file            string // the name of a file, whose content is output
}

// markdownBlocks returns the commands in the ```console blocks of a Markdown
// file, and the blocks that name a file. Blocks that start something and do not end are
// marked ```sh instead.
func markdownBlocks(markdown string) []markdownBlock {
	var blocks []markdownBlock
	console, file := false, false
	for line := range strings.Lines(markdown) {
		switch {
		case strings.HasPrefix(line, "```"):
			open := !console && !file
			console, file = open && strings.TrimSpace(line) == "```console", false
			if _, name, named := strings.Cut(strings.TrimSpace(line), " "); open && named {
				file = true
				blocks = append(blocks, markdownBlock{file: name})
			}
		case file:
			blocks[len(blocks)-1].output += line
		case !console:
		case strings.HasPrefix(line, "$ "):
			command := strings.TrimSpace(line[2:])
			command, fails := strings.CutSuffix(command, "   # exit code 1")
			blocks = append(blocks, markdownBlock{command: command, fails: fails})
		case len(blocks) > 0:
			blocks[len(blocks)-1].output += line
		}
	}
	return blocks
}

// matchText matches a text; see matchLines.
func matchText(pattern, text string) bool {
	return matchLines(strings.Split(strings.TrimSpace(pattern), "\n"), strings.Split(strings.TrimSpace(text), "\n"))
}

// matchLines matches lines against a pattern in which "..." stands for any number of lines,
// and "…" within a line for anything.
func matchLines(pattern, lines []string) bool {
	if len(pattern) == 0 {
		return len(lines) == 0
	}
	if strings.TrimSpace(pattern[0]) == "..." {
		for i := range len(lines) + 1 {
			if matchLines(pattern[1:], lines[i:]) {
				return true
			}
		}
		return false
	}
	return len(lines) > 0 && matchLine(strings.TrimRight(pattern[0], " \r"), strings.TrimRight(lines[0], " \r")) &&
		matchLines(pattern[1:], lines[1:])
}

func matchLine(pattern, line string) bool {
	parts := strings.Split(pattern, "…")
	if len(parts) == 1 {
		return pattern == line
	}
	line, ok := strings.CutPrefix(line, parts[0])
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(line, p)
		if !ok || i < 0 {
			return false
		}
		line = line[i+len(p):]
	}
	return ok && strings.HasSuffix(line, parts[len(parts)-1])
}

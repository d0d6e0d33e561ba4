package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wproxy/core/certs/acme/acmetest"
	"wproxy/core/certs/certstest"
	"wproxy/host"
	"wproxy/plugins"
)

// patience is how long a script waits for something that has to happen. It
// is only ever used up by a failure: compiling two plugins with the race detector
// on takes half a minute on a busy machine.
const patience = 3 * time.Minute

// TestMain makes wproxy a command that scripts run in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(sharing{m}, map[string]func(){
		"wproxy": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// sharing has all tests share a directory of compiled plugins.
type sharing struct{ m *testing.M }

// Run implements testscript.TestingM.
func (s sharing) Run() int {
	dir, err := os.MkdirTemp("", "wproxy-compiled")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(sharedCache, dir); err != nil {
		panic(err)
	}
	return s.m.Run()
}

// compileBuiltins compiles the shipped plugins into the directory that tests share. Scripts that
// run at the same time would each do so, which takes minutes with the race detector on.
var compileBuiltins = sync.OnceValue(func() error {
	h, err := host.NewHost(host.HostOptions{CacheDir: filepath.Join(os.Getenv(sharedCache), "wproxy", "wasm")})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(plugins.Names()), len(plugins.Names())+1)
	for i, name := range plugins.Names() {
		wg.Go(func() {
			wasm, err := plugins.Builtin(name)
			if err == nil {
				_, err = h.Load(context.Background(), wasm, host.PluginOptions{Name: name})
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(append(errs, h.Close())...)
})

// TestScript runs the whole-proxy tests in testdata/script: one behaviour a
// file. Besides testscript's own commands there are
//
//	expand FILE...           replace @NAME@ in files by the script's $NAME
//	serve [ARG...]           start `wproxy run ARG...` and wait until it serves; $NAME_ADDR is the
//	                         address of each listener, $ADMIN_ADDR of the admin server
//	signal HUP|USR1|USR2|TERM|INT
//	                         send it a signal
//	upgrade [ARG...]         run `wproxy upgrade ARG...`, and wait until another process serves: it is
//	                         the one from here on, and $PID its number
//	takeover                 wait until another process serves
//	free NAME...             $NAME is an address on loopback that nobody listens on
//	activate ADDRESS NAME [ARG...]
//	                         serve with a socket that systemd-socket-activate has made
//	supervise USEC           be its service manager: what it says is in notify.log; USEC is the
//	                         watchdog's time
//	ended CODE               wait for its end
//	exits CODE COMMAND...    run a command that ends with this code
//	origin [-tls[=VARIANT]] [-h2[=too]] NAME KIND [ARG]
//	                         start a scripted upstream; $NAME is its address (origin_test.go)
//	acme NAME [down]         run an ACME server (script_acme_test.go), or end it
//	received NAME N          it got so many requests
//	share NAME LEAST MOST    it got about so many requests
//	release NAME             let an upstream of kind gate answer
//	down NAME, up NAME       have an upstream die, and listen again
//	switch NAME CODE         make an upstream of kind switch answer with this status
//	dns NAME                 start a DNS server; $NAME is its address
//	record NAME KEY [RR...]  make these, with $NAMEs in them replaced, all the records of KEY,
//	                         "name. TYPE", that it has (script_dns_test.go)
//	guest FILE KIND [ARG]    make a plugin (script_guest_test.go)
//	http [-bg] [-cert NAME] [-sni NAME] METHOD URL [field: value]... [@FILE]
//	                         send a request; the answer becomes stdout. https believes the CA of
//	                         cert; -cert shows NAME.pem, -sni asks for another host than the field
//	cert [-ca CA] [-client] [-rsa] [-expired] FILE NAME...
//	                         make FILE.pem and FILE.key for these names, signed by CA ("ca"), which is
//	                         made with its CA.pem when it is first named
//	answer                   wait for the answers to http -bg
//	repeat N COMMAND...      run a command of this list N times, outputs together
//	until PATTERN http ARG...  send a request again and again until the answer matches: an
//	                         exchange is accounted for a moment after its answer has arrived;
//	                         with "!" until it does not match
//	count N PATTERN          so many lines of stdout match
//	pick NAME PATTERN        $NAME is what the group of the pattern is in stdout
//	raw ADDRESS FILE         send bytes (LF becomes CRLF); what comes back until the close is stdout
//	eventually FILE PATTERN  wait until a file matches
//	readme [-start] FILE [HEADING]
//	                         run the console lines of a Markdown file, or of a section, and compare;
//	                         -start runs its other terminals, too (script_readme_test.go)
//
// The conditions [builtin] (the shipped plugins are embedded) and [exec:NAME]
// help to skip what a machine lacks; [race] (the race detector is on) what takes minutes
// with it; [root] is what only root can do; with [ci] nothing may be missing.
func TestScript(t *testing.T) {
	goEnv := goEnvironment(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join(root, "testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[scriptKey{}] = &script{
				origins: map[string]*origin{}, zones: map[string]*zone{}, cas: map[string]*certstest.CA{},
			}
			repository, err := filepath.Abs(root)
			if err != nil {
				return err
			}
			// Sockets have short names at most, so not below $WORK.
			dir, err := os.MkdirTemp("", "wp") //nolint:usetesting // t.TempDir has the test's name in it
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("XDG_RUNTIME_DIR", dir)
			e.Setenv("XDG_CACHE_HOME", os.Getenv(sharedCache))
			e.Setenv("ROOT", repository)
			for k, v := range goEnv {
				e.Setenv(k, v)
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "builtin":
				_, err := plugins.Builtin("ratelimit")
				if there := err == nil; there {
					return true, compileBuiltins()
				}
				return false, nil
			case "race":
				return raceDetector, nil
			case "socket-activate":
				_, err := exec.LookPath("systemd-socket-activate")
				if err != nil && os.Getenv("CI") == "true" {
					return false, fmt.Errorf("systemd is needed in CI: %w", err)
				}
				return err == nil, nil
			case "root":
				return os.Geteuid() == 0, nil
			case "ci":
				return os.Getenv("CI") == "true", nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expand":     cmdExpand,
			"serve":      cmdServe,
			"signal":     cmdSignal,
			"upgrade":    cmdUpgrade,
			"takeover":   cmdTakeover,
			"activate":   cmdActivate,
			"free":       cmdFree,
			"supervise":  cmdSupervise,
			"ended":      cmdEnded,
			"exits":      cmdExits,
			"origin":     cmdOrigin,
			"received":   cmdReceived,
			"share":      cmdShare,
			"release":    cmdRelease,
			"switch":     cmdSwitch,
			"down":       cmdDown,
			"up":         cmdUp,
			"dns":        cmdDNS,
			"record":     cmdRecord,
			"guest":      cmdGuest,
			"http":       cmdHTTP,
			"h2c":        cmdH2C,
			"cert":       cmdCert,
			"answer":     cmdAnswer,
			"repeat":     cmdRepeat,
			"until":      cmdUntil,
			"count":      cmdCount,
			"pick":       cmdPick,
			"raw":        cmdRaw,
			"eventually": cmdEventually,
			"readme":     cmdReadme,
			"acme":       cmdACME,
		},
	})
}

// goEnvironment returns where the go command keeps what it has built and fetched: scripts
// have a home of their own, in which it would find nothing.
func goEnvironment(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	env := map[string]string{}
	if err := json.Unmarshal(out, &env); err != nil {
		t.Fatal(err)
	}
	return env
}

// A script is the state of one script.
type script struct {
	wproxy  *process // what serve started last
	origins map[string]*origin
	zones   map[string]*zone
	answers chan string // of http -bg
	waited  int         // how many of those are to come

	authorities map[string]*acmetest.Server // of acme
	ca          *certstest.CA
	cas         map[string]*certstest.CA
}

type scriptKey struct{}

func stateOf(ts *testscript.TestScript) *script {
	s, ok := ts.Value(scriptKey{}).(*script)
	if !ok {
		ts.Fatalf("no state")
	}
	return s
}

// noNeg refuses "! command" where it has no meaning, and wrong numbers of arguments.
func noNeg(ts *testscript.TestScript, neg bool, args []string, least int) {
	if neg {
		ts.Fatalf("this command cannot be negated")
	}
	if len(args) < least {
		ts.Fatalf("%d arguments needed, got %d", least, len(args))
	}
}

// put adds text to the stdout that the next commands look at.
func put(ts *testscript.TestScript, text string) {
	_, err := io.WriteString(ts.Stdout(), text)
	ts.Check(err)
}

// cmdExpand fills addresses into configurations.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	name := regexp.MustCompile(`@([A-Z_]+)@`)
	for _, file := range args {
		text := name.ReplaceAllStringFunc(ts.ReadFile(file), func(s string) string {
			v := ts.Getenv(strings.Trim(s, "@"))
			if v == "" {
				ts.Fatalf("%s: %s is not set", file, s)
			}
			return v
		})
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// cmdRepeat runs one of our commands several times and joins what they print.
func cmdRepeat(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	if args[1] != "http" {
		ts.Fatalf("only http can be repeated")
	}
	for range n {
		cmdHTTP(ts, false, args[2:])
	}
}

// cmdUntil repeats a request until the answer matches, or with ! until it does not.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, false, args, 4)
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	if args[1] != "http" {
		ts.Fatalf("only http can be repeated")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		answer := roundTrip(ts, args[2:])
		if re.MatchString(answer) != neg {
			put(ts, answer)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never seen what was waited for:\n%s", answer)
		}
	}
}

// cmdCount counts lines of what our last command printed.
func cmdCount(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	n, all := 0, ts.ReadFile("stdout")
	for line := range strings.Lines(all) {
		if re.MatchString(strings.TrimSuffix(line, "\n")) {
			n++
		}
	}
	if strconv.Itoa(n) != args[0] {
		ts.Fatalf("%d lines match %s, want %s:\n%s", n, args[1], args[0], all)
	}
}

func cmdPick(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	all := ts.ReadFile("stdout")
	m := re.FindStringSubmatch(all)
	if len(m) != 2 {
		ts.Fatalf("%s has no group, or does not match:\n%s", args[1], all)
	}
	ts.Setenv(args[0], m[1])
}

func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	file := ts.MkAbs(args[0])
	deadline := time.Now().Add(patience)
	for {
		b, err := os.ReadFile(file)
		if err == nil && re.Match(b) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never matched %s:\n%s", args[0], args[1], b)
		}
		time.Sleep(20 * time.Millisecond) // polling a file
	}
}

// cmdRaw sends a file's bytes and reads until the other side closes, or says
// nothing for a while.
func cmdRaw(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	c, err := net.Dial("tcp", args[0])
	ts.Check(err)
	defer c.Close()
	text := strings.ReplaceAll(ts.ReadFile(args[1]), "\n", "\r\n")
	_, err = io.WriteString(c, text)
	ts.Check(err)
	ts.Check(c.SetReadDeadline(time.Now().Add(patience)))
	b, err := io.ReadAll(c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		ts.Fatalf("the connection stays open; so far came\n%s", b)
	}
	put(ts, strings.ReplaceAll(string(b), "\r\n", "\n"))
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"wproxy/core/config"
)

// TestLogThatNobodyReads: who logs does not wait for who reads the log; what is lost is
// counted, and told when lines get through again.
func TestLogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l := newServerLog(io.Discard, w)
	defer l.close()
	var counted atomic.Uint64
	l.countTo(func(n uint64) { counted.Add(n) })

	const lines = 60_000 // of more than 200 bytes: more than is held
	filled := make(chan struct{})
	go func() { // ends at once if nothing blocks
		defer close(filled)
		for range lines {
			l.logger.Info("line", zap.String("of", strings.Repeat("x", 200)))
		}
	}()
	select {
	case <-filled:
	case <-time.After(20 * time.Second):
		t.Fatal("who logs waits for a pipe that nobody reads")
	}
	lost := counted.Load()
	if lost == 0 || lost >= lines {
		t.Fatalf("%d of %d lines were lost", lost, lines)
	}

	// Somebody reads again.
	type entry struct {
		Msg   string
		Lines uint64
	}
	seen := make(chan entry, 100)
	ended := make(chan int)
	go func() { // ends with the pipe
		n := 0
		for s := bufio.NewScanner(r); s.Scan(); {
			var e entry
			if err := json.Unmarshal(s.Bytes(), &e); err != nil {
				t.Errorf("%v: %.100s", err, s.Bytes())
			}
			if e.Msg == "line" {
				n++
				continue
			}
			seen <- e
		}
		ended <- n
	}()
	deadline := time.After(20 * time.Second)
	told := uint64(0)
	for told == 0 {
		l.logger.Info("more") // there may be no room yet
		select {
		case e := <-seen:
			told += e.Lines
		case <-deadline:
			t.Fatal("nobody says that lines were lost")
		case <-time.After(10 * time.Millisecond):
		}
	}
	go func() { l.close(); _ = w.Close() }() // the reader ends with the pipe
	for n := -1; n < 0; {
		select {
		case e := <-seen:
			told += e.Lines
		case n = <-ended:
			if uint64(n)+lost != lines {
				t.Errorf("%d lines arrived and %d were lost of %d", n, lost, lines)
			}
		}
	}
	for len(seen) > 0 {
		e := <-seen
		told += e.Lines
	}
	if got := counted.Load(); told != got {
		t.Errorf("told of %d lost lines, counted %d", told, got)
	}
}

// TestLogMoves: every line is in the file that was the log when it was written, and
// the last ones are there when the log is closed.
func TestLogMoves(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	l := newServerLog(io.Discard, &stderr)
	names := []string{"stderr", filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")}
	for _, name := range names {
		use, _, err := l.open(config.Log{Level: "info", To: name})
		if err != nil {
			t.Fatal(err)
		}
		use()
		l.logger.Info("in " + name)
	}
	if err := os.Rename(names[2], names[2]+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	l.logger.Info("rotated")
	if _, _, err := l.open(config.Log{Level: "info", To: filepath.Join(dir, "none", "c.log")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that cannot be opened: got %v", err)
	}
	_, giveUp, err := l.open(config.Log{Level: "error", To: filepath.Join(dir, "d.log")})
	if err != nil {
		t.Fatal(err)
	}
	giveUp()
	l.logger.Info("last")
	l.close()
	l.logger.Info("too late")
	l.close()
	for name, want := range map[string][]string{
		"stderr": {"in stderr"}, "a.log": {"in " + names[1]}, "b.log.1": {"in " + names[2]}, "b.log": {"rotated", "last"}, "d.log": nil,
	} {
		b := stderr.Bytes()
		if name != "stderr" {
			if b, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Count(string(b), "\n"); got != len(want) {
			t.Errorf("%s has %d lines, want %d: %s", name, got, len(want), b)
		}
		for _, s := range want {
			if !strings.Contains(string(b), s) {
				t.Errorf("%s: no %q in %s", name, s, b)
			}
		}
	}
}

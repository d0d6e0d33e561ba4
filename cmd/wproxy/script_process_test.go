package main

import (
	"net"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSupervise takes the part of systemd (sd_notify(3)) for the wproxy that is started next.
func cmdSupervise(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	path := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	log, err := os.Create(filepath.Join(ts.Getenv("WORK"), "notify.log"))
	ts.Check(err)
	done := make(chan struct{})
	go func() { // ends when c is closed
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			_, _ = log.Write(append(b[:n:n], '\n')) // the script misses what is missing
		}
	}()
	ts.Defer(func() {
		_ = c.Close()
		<-done
		_ = log.Close()
	})
	ts.Setenv("NOTIFY_SOCKET", path)
	ts.Setenv("WATCHDOG_USEC", args[0])
}

package h1_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

// patience is how long a test waits for what has to happen. Only a failure uses it up.
const patience = 30 * time.Second

// TestMain fails when buffers are still lent after all tests (with -tags
// invariants; otherwise nothing is counted).
func TestMain(m *testing.M) {
	code := m.Run()
	for start := time.Now(); buf.Live() > 0 && time.Since(start) < 10*time.Second; { // goroutines that are just ending
		time.Sleep(time.Millisecond)
	}
	if n := buf.Live(); n > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d buffers were never released\n", n)
		code = 1
	}
	os.Exit(code)
}

func answer(c exchange.Client, body string) error {
	if err := c.Head(&exchange.Response{Status: 200, Length: int64(len(body))}, body == ""); err != nil || body == "" {
		return err
	}
	return c.Data([]byte(body), true)
}

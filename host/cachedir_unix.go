//go:build unix

package host

import (
	"fmt"
	"os"
	"syscall"
)

// privateDir makes dir if it is missing and reports why it cannot hold machine code:
// it has to be a directory, no link to one, of this user, closed to all others.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others could put code there, want 0700", dir, perm)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to %d", dir, sys.Uid, os.Geteuid())
	}
	return nil
}

//go:build !unix || solaris || illumos || aix

package listen

import "errors"

// reusePort is not there.
func reusePort(uintptr) error { return errors.ErrUnsupported }

func reusesPort(uintptr) bool { return false }

// backlog is not there: the system's own length stays.
func backlog(uintptr, int) error { return errors.ErrUnsupported }

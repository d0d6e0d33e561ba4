package acme

import (
	"errors"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// retryWait returns how long to wait after the tries-th order in a row (from 1) has
// failed with err. first replaces the first wait; 0: it is up to err.
func retryWait(err error, tries int, first time.Duration) time.Duration {
	most := maxRetry
	switch {
	case first > 0:
		most = 360 * first
	case refused(err):
		first = retryRefused
	default:
		first = retryFailed
	}
	wait := first
	for ; tries > 1 && wait < most; tries-- {
		wait *= 2
	}
	return min(wait, most)
}

// refused reports whether err is the CA's answer: it was there, and has counted.
func refused(err error) bool {
	_, ok := errors.AsType[acme.Problem](err)
	return ok
}

// tooSoon reports whether a certificate that was obtained at a time is to be kept
// whatever its renewal information says.
func tooSoon(now, obtained, notBefore, notAfter time.Time) bool {
	keep := min(minRenewed, notAfter.Sub(notBefore)/3)
	return now.Before(obtained.Add(keep)) && now.Before(notAfter)
}

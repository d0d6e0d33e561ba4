package main

import (
	"errors"

	"wproxy/core/config"
)

// asType returns the first error in err's tree that is a T.
func asType[T error](err error) (T, bool) {
	var e T
	ok := errors.As(err, &e)
	return e, ok
}

// flatten returns the errors that err joins, or err alone.
func flatten(err error) []error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// isRefusal reports whether err says that the configuration is wrong, as
// opposed to wproxy not being able to do what it says.
func isRefusal(err error) bool {
	if _, ok := asType[config.Problems](err); ok {
		return true
	}
	_, ok := asType[config.Problem](err)
	return ok
}

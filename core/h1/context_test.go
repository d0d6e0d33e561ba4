package h1

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type ctxKey struct{}

// TestConnContext: it behaves as one of package context does, although its parent
// does not know it.
func TestConnContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, tt := range map[string]struct {
		end   func(c *connContext, parent context.CancelCauseFunc)
		cause error
	}{
		"cancelled":        {func(c *connContext, _ context.CancelCauseFunc) { c.cancel(cause) }, cause},
		"cancelled twice":  {func(c *connContext, _ context.CancelCauseFunc) { c.cancel(cause); c.cancel(context.Canceled) }, cause},
		"parent cancelled": {func(_ *connContext, parent context.CancelCauseFunc) { parent(cause) }, cause},
		"ended":            {func(c *connContext, _ context.CancelCauseFunc) { c.end() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), ctxKey{}, 1))
				defer cancel(nil)
				c := &connContext{parent: parent}
				child, stop := context.WithTimeout(c, time.Hour)
				defer stop()
				if c.Err() != nil || child.Err() != nil || context.Cause(c) != nil || c.Value(ctxKey{}) != 1 {
					t.Fatal("it is over before it has begun, or has lost a value")
				}
				tt.end(c, cancel)
				<-c.Done()
				<-child.Done()
				for _, x := range []context.Context{c, child} {
					if !errors.Is(x.Err(), context.Canceled) || !errors.Is(context.Cause(x), tt.cause) || x.Value(ctxKey{}) != 1 {
						t.Errorf("got %v, cause %v, value %v, want canceled, %v, 1", x.Err(), context.Cause(x), x.Value(ctxKey{}), tt.cause)
					}
				}
			})
		})
	}
}

// TestConnContextUnasked: without a call of Done nobody watches the parent, and Err
// knows all the same.
func TestConnContextUnasked(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	c := &connContext{parent: parent}
	c.end()
	if c.ended != nil {
		t.Error("something was made for nobody")
	}
	c = &connContext{parent: parent}
	cancel()
	if !errors.Is(c.Err(), context.Canceled) {
		t.Errorf("got %v, want canceled", c.Err())
	}
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Error("Done is not closed")
	}
}

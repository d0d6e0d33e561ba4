package main

import (
	"context"
	"errors"
	"testing"
)

// TestUpgradeOrStop: whichever comes first, a process that is told to stop and hands over does
// one of both: it ends the new one, or leaves the sockets and their files to it.
func TestUpgradeOrStop(t *testing.T) {
	t.Parallel()
	under := func(a *app) context.Context {
		ctx, give := context.WithCancelCause(t.Context())
		t.Cleanup(func() { give(nil) })
		a.setUpgrade(&upgradeStatus{Running: true}, give)
		return ctx
	}
	for name, stopped := range map[string]func(a *app) (context.Context, bool){
		"before it has begun": func(a *app) (context.Context, bool) { gone := a.abortUpgrade(); return under(a), gone },
		"under way":           func(a *app) (context.Context, bool) { ctx := under(a); return ctx, a.abortUpgrade() },
	} {
		a := &app{}
		ctx, gone := stopped(a)
		if gone || !errors.Is(context.Cause(ctx), errUpgradeStop) {
			t.Errorf("%s: gone %v, %v", name, gone, context.Cause(ctx))
		}
		if a.goneTo() { // the new process has said that it serves at the same moment
			t.Errorf("%s: both stop and hand over", name)
		}
	}
	a := &app{}
	ctx := under(a)
	if !a.goneTo() || !a.abortUpgrade() || ctx.Err() != nil {
		t.Error("told to stop when the other one serves: it is not left to it")
	}
}

package main

import (
	"testing"
)

func newTestChecker(t *testing.T, doc string, s store, clock *fakeClock) *checker {
	t.Helper()
	c, err := parseConfig([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	k := newChecker(c, newLimiter(c.limit, s, clock.now), &seed{3, 4})
	return &k
}

func TestCheck(t *testing.T) {
	client := fakeRequest{client: "192.0.2.1:1"}
	for _, tc := range []struct {
		name   string
		doc    string
		r      fakeRequest
		want   []outcome
		refuse []bool
	}{
		{"limit", `{"rate":"1/s"}`, client, []outcome{allowed, limited}, []bool{false, true}},
		{"report", `{"rate":"1/s","mode":"report"}`, client, []outcome{allowed, reported, reported}, []bool{false, false, false}},
		{"exempt client", `{"rate":"1/s","exempt":{"clients":["192.0.2.0/24"]}}`, client, []outcome{exempted, exempted}, []bool{false, false}},
		{"exempt address", `{"rate":"1/s","exempt":{"clients":"192.0.2.1"}}`, client, []outcome{exempted, exempted}, []bool{false, false}},
		{"client not exempt", `{"rate":"1/s","exempt":{"clients":["192.0.3.0/24","::/0"]}}`, client, []outcome{allowed, limited}, []bool{false, true}},
		{"exempt header", `{"rate":"1/s","exempt":{"headers":{"X-Plan":["a","b"]}}}`, fakeRequest{headers: h("x-plan", "b")}, []outcome{exempted, exempted}, []bool{false, false}},
		{"exempt header, any value", `{"rate":"1/s","exempt":{"headers":{"x-plan":true}}}`, fakeRequest{headers: h("x-plan", "")}, []outcome{exempted}, []bool{false}},
		{"header not exempt", `{"rate":"1/s","key":"global","exempt":{"headers":{"x-plan":"a"}}}`, fakeRequest{headers: h("x-plan", "A")}, []outcome{allowed, limited}, []bool{false, true}},
		{"no key, share", `{"rate":"1/s","key":"header:k"}`, client, []outcome{allowed, limited}, []bool{false, true}},
		{"no key, allow", `{"rate":"1/s","key":"header:k","on_missing_key":"allow"}`, client, []outcome{keyless, keyless}, []bool{false, false}},
		{"no key, deny", `{"rate":"1/s","key":"header:k","on_missing_key":"deny"}`, client, []outcome{keyless}, []bool{true}},
		{"no key, deny, report", `{"rate":"1/s","key":"header:k","on_missing_key":"deny","mode":"report"}`, client, []outcome{reported}, []bool{false}},
	} {
		c := newTestChecker(t, tc.doc, newFakeStore(), newFakeClock())
		for i := range tc.want {
			v := c.check(tc.r, "r")
			if v.outcome != tc.want[i] || v.refuse != tc.refuse[i] {
				t.Errorf("%s, request %d: got %s, refuse %t, want %s, %t", tc.name, i, v.outcome, v.refuse, tc.want[i], tc.refuse[i])
			}
		}
	}
}

func TestScope(t *testing.T) {
	r := fakeRequest{client: "192.0.2.1:1"}
	for doc, want := range map[string]outcome{
		`{"rate":"1/s"}`:                  allowed, // each route has its own buckets
		`{"rate":"1/s","scope":"plugin"}`: limited,
	} {
		s, clock := newFakeStore(), newFakeClock()
		newTestChecker(t, doc, s, clock).check(r, "a")
		if v := newTestChecker(t, doc, s, clock).check(r, "b"); v.outcome != want {
			t.Errorf("%s: a second route: got %s, want %s", doc, v.outcome, want)
		}
	}
}

// TestOtherLimit: routes with other numbers have other buckets, also where the scope is the
// plugin: a time means something else there.
func TestOtherLimit(t *testing.T) {
	r := fakeRequest{client: "192.0.2.1:1"}
	s, clock := newFakeStore(), newFakeClock()
	newTestChecker(t, `{"rate":"1/h","scope":"plugin"}`, s, clock).check(r, "a")
	if v := newTestChecker(t, `{"rate":"1/s","scope":"plugin"}`, s, clock).check(r, "b"); v.outcome != allowed {
		t.Errorf("got %s, want allowed", v.outcome)
	}
}

func TestFields(t *testing.T) {
	for _, tc := range []struct {
		d            decision
		limit, retry string
	}{
		{decision{admitted: true, remaining: 9, full: 1}, `"default";r=9;t=1`, "1"},
		{decision{remaining: 0, full: 60e9, retry: 1500e6}, `"default";r=0;t=60`, "2"},
		{decision{remaining: 0, full: 1e9, retry: 1e9}, `"default";r=0;t=1`, "1"},
		{decision{contended: true, retry: 1e9}, `"default";r=0;t=1`, "1"},
		// A cost above one: tokens are left, and not enough.
		{decision{remaining: 2, full: 3e9, retry: 1}, `"default";r=2;t=3`, "1"},
	} {
		if got := string(appendLimitField(nil, &tc.d)); got != tc.limit {
			t.Errorf("%+v: ratelimit: got %s, want %s", tc.d, got, tc.limit)
		}
		if got := string(appendRetryAfter(nil, &tc.d)); got != tc.retry {
			t.Errorf("%+v: retry-after: got %s, want %s", tc.d, got, tc.retry)
		}
	}
}

func TestParseCost(t *testing.T) {
	for text, want := range map[string]int64{
		"": 1, "0": 0, "7": 7, "007": 7, "-7": 1, "1.5": 1, "7 ": 1, "1000000000": maxBurst, "99999999999999999999999": maxBurst,
	} {
		if got := parseCost([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

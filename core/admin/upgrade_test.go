package admin_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"wproxy/core/admin"
)

// TestUpgrade: a program is started for who comes by the unix socket, with a token or without.
func TestUpgrade(t *testing.T) {
	r := newRig(t)
	private := r.open(t, admin.Door{Private: true})
	public := r.open(t, admin.Door{Write: true, Token: "t"})
	for _, tt := range []struct {
		address, query string
		status         int
		body           string
	}{
		{private, "", 200, `" 0s"`},
		{private, "?binary=/x&timeout=1500", 200, `"/x 1.5s"`},
		{private, "?binary=bad", 422, "it is bad"},
		{private, "?timeout=soon", 400, "wants milliseconds"},
		{private, "?timeout=-1", 400, "wants milliseconds"},
		{public, "", 403, "only on the unix socket"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+tt.address+"/upgrade"+tt.query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer t")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(b), tt.body) {
			t.Errorf("%s: %d %s, want %d %s", tt.query, resp.StatusCode, b, tt.status, tt.body)
		}
	}
}

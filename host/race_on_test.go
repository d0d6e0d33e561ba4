//go:build race

package host_test

import "time"

// workSlack allows for the race detector, which looks at each byte of what is copied.
const workSlack = 20 * time.Second

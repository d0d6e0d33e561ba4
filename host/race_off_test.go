//go:build !race

package host_test

import "time"

// workSlack is how long a call may take whose budget is a millisecond, on a busy machine.
// What is not charged for takes seconds.
const workSlack = time.Second

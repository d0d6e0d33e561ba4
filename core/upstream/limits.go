package upstream

import "time"

// budgetWindow is how long what requests have paid into a [Budget] can be used. With
// the default share of 20 % one of three servers may refuse everything for 2.7 s
// before a request is not retried, which is longer than it takes to notice; and when
// all of them fail, the load is at most doubled, for 0.7 s.
const budgetWindow = 3 * time.Second

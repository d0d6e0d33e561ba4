//go:build !wasip1

package abi

import "time"

// Only hosts write these. A guest that has package abi must not link package time for them.

// AppendDuration appends d as a signed integer of nanoseconds.
func AppendDuration(dst []byte, d time.Duration) []byte { return AppendInt(dst, int64(d)) }

// AppendTime appends t as a signed integer of nanoseconds since the Unix epoch.
func AppendTime(dst []byte, t time.Time) []byte { return AppendInt(dst, t.UnixNano()) }

//go:build !unix

package host

import "os"

// privateDir makes dir if it is missing. Who else may write there is not checked on
// systems without Unix permissions.
func privateDir(dir string) error { return os.MkdirAll(dir, 0o700) }

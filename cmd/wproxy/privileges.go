package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"wproxy/core/config"
)

// An identity is whom server.user and server.group name.
type identity struct{ uid, gid int }

// identityOf looks server.user and server.group up; nil: the process stays who it
// is. Both may be numbers, which need no entry in the system's tables.
func identityOf(s *config.Server) (*identity, error) {
	if s.User == "" {
		return nil, nil //nolint:nilnil // nobody
	}
	id := &identity{gid: -1}
	u, err := user.Lookup(s.User)
	switch n, bad := strconv.Atoi(s.User); {
	case err == nil:
		id.uid, _ = strconv.Atoi(u.Uid) // numbers, on every unix
		id.gid, _ = strconv.Atoi(u.Gid)
	case bad == nil && n >= 0:
		id.uid = n
	default:
		return nil, fmt.Errorf("server.user: there is no user %q", s.User)
	}
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		switch n, bad := strconv.Atoi(s.Group); {
		case err == nil:
			id.gid, _ = strconv.Atoi(g.Gid)
		case bad == nil && n >= 0:
			id.gid = n
		default:
			return nil, fmt.Errorf("server.group: there is no group %q", s.Group)
		}
	}
	if id.gid < 0 {
		return nil, fmt.Errorf("server.group: the user %s has no entry to take a group from: set group", s.User)
	}
	return id, nil
}

// drop makes the process id's, for good: without supplementary groups, and without a way
// back. A process that is not root's must be id's already.
func (id *identity) drop() error {
	if os.Geteuid() != 0 {
		if os.Geteuid() == id.uid && os.Getegid() == id.gid {
			return nil
		}
		return fmt.Errorf("server.user: only root can become uid %d, gid %d; this is uid %d, gid %d",
			id.uid, id.gid, os.Geteuid(), os.Getegid())
	}
	if id.uid == 0 {
		return nil // asked for
	}
	if err := syscall.Setgroups([]int{id.gid}); err != nil {
		return fmt.Errorf("server.group: cannot give up the groups of root: %w", err)
	}
	if err := syscall.Setgid(id.gid); err != nil {
		return fmt.Errorf("server.group: cannot become gid %d: %w", id.gid, err)
	}
	if err := syscall.Setuid(id.uid); err != nil {
		return fmt.Errorf("server.user: cannot become uid %d: %w", id.uid, err)
	}
	if syscall.Setuid(0) == nil || os.Geteuid() != id.uid || os.Getegid() != id.gid {
		return errors.New("server.user: the process is root's still")
	}
	return nil
}

// own gives id what was made as root and is opened, renamed or removed later: sockets with
// the runtime directory, log files. Files that are not there are none of ours.
func (id *identity) own(paths ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, p := range paths {
		fi, err := os.Lstat(p)
		if errors.Is(err, os.ErrNotExist) || err == nil && !fi.Mode().IsRegular() && !fi.IsDir() && fi.Mode()&os.ModeSocket == 0 {
			continue
		}
		if err == nil {
			err = os.Lchown(p, id.uid, id.gid)
		}
		if err != nil {
			return fmt.Errorf("server.user: %w", err)
		}
	}
	return nil
}

// madeAsRoot lists what was made before privileges are dropped.
func madeAsRoot(f *config.File, doors *doorChange) []string {
	var all []string
	for _, d := range doors.doors {
		path, ok := strings.CutPrefix(d.address, "unix:")
		if !ok {
			continue
		}
		all = append(all, path)
		for _, dir := range runtimeDirs() { // private ones, made by us
			if filepath.Dir(path) == dir {
				all = append(all, dir)
			}
		}
	}
	for _, l := range f.Listeners {
		if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			all = append(all, path)
		}
	}
	for _, to := range []string{f.Log.To, f.Log.Access.To} {
		if !slices.Contains([]string{"", "none", "stderr", "stdout"}, to) {
			all = append(all, to)
		}
	}
	if f.Server.PidFile != "" {
		all = append(all, f.Server.PidFile)
	}
	return all
}

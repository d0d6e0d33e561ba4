package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
)

// LoadServers reads a file of servers, in JSON or TOML by its ending: in TOML the key
// servers, in JSON a list, or an object with such a key. The list is what
// upstreams.NAME.servers takes. The error is a Problems list, or says why the file
// cannot be read.
func LoadServers(path string) ([]ServerEntry, error) {
	content, err := readFile(path, maxFileSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ParseServers(path, content)
}

// ParseServers is LoadServers for content that is at hand.
func ParseServers(path string, content []byte) ([]ServerEntry, error) {
	var root *node
	if filepath.Ext(path) == ".json" {
		d := json.NewDecoder(bytes.NewReader(content))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, Problems{{Pos: Pos{File: path}, Text: oneLine(err.Error())}}
		}
		if d.More() {
			return nil, Problems{{Pos: Pos{File: path}, Text: "there is something behind the JSON value"}}
		}
		root = jsonNode(path, "", v)
		if root.array {
			root.key = "servers"
			root = &node{pos: root.pos, table: map[string]*node{"servers": root}}
		}
	} else {
		var p *Problem
		if root, p = parseTree(path, content); p != nil {
			return nil, Problems{*p}
		}
	}
	b := binder{expander: newExpander()}
	var list []ServerEntry
	for _, name := range root.names() {
		n := root.table[name]
		if name != "servers" {
			b.addf(scope{}, n, "unknown key %q%s", name, suggest(name, []string{"servers"}))
			continue
		}
		list = b.servers(scope{}, n)
	}
	switch {
	case root.table == nil:
		b.addf(scope{}, root, "is %s, want a list of servers, or servers = [...]", root.kind())
	case root.table["servers"] == nil && len(b.problems) == 0:
		b.addf(scope{}, root, "has no servers; an empty list says that there are none")
	}
	seen := map[string]bool{}
	for i, s := range list {
		if seen[s.Address] {
			b.addf(scope{}, root.table["servers"].list[i], "%q is listed twice; give it a weight instead", s.Address)
		}
		seen[s.Address] = true
	}
	if len(b.problems) > 0 {
		b.problems.Sort()
		return nil, b.problems[:min(len(b.problems), maxProblems)]
	}
	return list, nil
}

// jsonNode turns a decoded JSON value into a node. JSON's decoder keeps no places.
func jsonNode(path, key string, v any) *node {
	n := &node{pos: Pos{File: path}, key: key}
	switch x := v.(type) {
	case map[string]any:
		n.table = make(map[string]*node, len(x))
		for k, e := range x {
			at := k
			if key != "" {
				at = key + "." + k
			}
			n.table[k] = jsonNode(path, at, e)
		}
	case []any:
		n.array = true
		for i, e := range x {
			if key == "" {
				key = "servers"
			}
			n.list = append(n.list, jsonNode(path, key+"["+strconv.Itoa(i)+"]", e))
		}
	case json.Number:
		if i, err := x.Int64(); err == nil {
			n.val = i
		} else {
			f, _ := x.Float64() // what is out of range is refused as infinite, or as no integer
			n.val = f
		}
	default: // string, bool, nil
		n.val = v
	}
	return n
}

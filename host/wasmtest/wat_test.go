package wasmtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/host/wasmtest"
)

// sources returns the guests in testdata/wat by their file names.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../testdata/wat/*/*.wat")
	if err != nil || len(files) == 0 {
		t.Fatalf("no guests: %v", err)
	}
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[f] = string(b)
	}
	return all
}

// everything is a module with all that the assembler knows.
const everything = `;; a comment
(module (; another
  ;)
  (import "env" "f" (func $f (param i32) (param $x i64) (result i32)))
  (import "env" "g" (func (param i32 i32)))
  (memory (export "memory") 1 0x10)
  (global $g (mut i32) (i32.const -5))
  (func $one (export "a") (export "b") (param $p i32) (result i64)
    (local $l i32) (local i32 i64 i64) (local $last i32)
    i64.const 0xffff_ffff_ffff_ffff
    local.set 3
    (if $label (result i32) (i32.lt_u (local.get $p) (i32.const 0x80000000))
      (then (br $label (i32.const 1)))
      (else i32.const -2147483648))
    (local.set $l)
    (block $out (loop $again (br_if $again (local.tee $l (i32.sub (local.get $l) (i32.const 1)))) (br $out)))
    (block (result i32) (memory.grow (memory.size)))
    drop
    (i32.store8 offset=70000 (i32.const 8) (i32.load16_u offset=2 (i32.const 4)))
    (i64.store (i32.const 16) (i64.load (i32.const 24)))
    (drop (call $f (global.get $g) (i64.extend_i32_u (i32.const 128))))
    (global.set $g (select (i32.const 64) (i32.const 63) (local.get $p)))
    nop
    (return (i64.const 1)))
  (func (export "c") (unreachable))
  (func $two)
  (data (i32.const 1024) "text \"\\\n\t\00\ff" "more")
  (data (i32.const 2048) "")
  (export "two" (func $two))
  (export "mem" (memory 0))
  (start $two))`

// The assembler agrees with wat2wasm, which is how its output is known to be right.
func TestWATAgreesWithWabt(t *testing.T) {
	tool, err := exec.LookPath("wat2wasm")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("wat2wasm, of wabt, is missing")
		}
		t.Skip("wat2wasm, of wabt, is missing")
	}
	all := sources(t)
	all["everything"] = everything
	for name, src := range all {
		got, err := wasmtest.WAT(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cmd := exec.CommandContext(t.Context(), tool, "--output=-", "-")
		cmd.Stdin = strings.NewReader(src)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		want, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: wat2wasm: %v\n%s", name, err, stderr.String())
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n\t%x\nwant\n\t%x", name, got, want)
		}
	}
}

func TestWATMistakes(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{"", "ends early"},
		{"(func)", "want one (module"},
		{"(module) x", "want one (module"},
		{"(module", "ends early"},
		{"(module (table 1 funcref))", `not known: "table"`},
		{"(module\n(func (i32.popcnt (i32.const 1))))", `line 2: an instruction that is not known: "i32.popcnt"`},
		{"(module (func (call $nobody)))", `"$nobody" is not defined`},
		{"(module (func (drop (local.get 0))))", `"0" is not defined`},
		{"(module (func (drop (i32.const))))", "needs an immediate"},
		{"(module (func (drop (i32.const 4294967296))))", "no integer of 32 bits"},
		{"(module (func (param f32)))", `type that is not known: "f32"`},
		{`(module (data (i32.const 0) "x`, "string does not end"},
		{"(module (; x", "comment does not end"},
		{"(module (func (if (i32.const 1) (else))))", "not known: \"else\""},
	} {
		if _, err := wasmtest.WAT(tt.src); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("WAT(%q) = %v, want an error with %q", tt.src, err, tt.want)
		}
	}
}

// Package meter rewrites WebAssembly modules so that they count their work.
//
// Machine code made by a WebAssembly runtime cannot be preempted: while a guest loops,
// no goroutine can be scheduled in its place, and a garbage collection that wants to
// start holds up the whole process until the guest returns. So the module itself gives
// up the processor now and then. Rewrite adds
//
//   - an exported mutable global, Fuel, that is counted down by what code costs: a
//     unit is about an instruction, see opcode.go. Each region of code takes off its
//     price as it begins; where a loop begins, and where a function begins that calls
//     others, the number is looked at as well. regions.go has the rules;
//   - an imported function, Module and Refill, that is called when a number is
//     negative. It is Go code, so a collection can start while it runs. It adds to the
//     number, or ends the call by a panic;
//   - an exported mutable global, Room, of stack in bytes, which functions take from
//     as they begin and give back as they end, whichever way they do. Only functions
//     that can be on the stack twice do that, or have large frames; graph.go tells
//     which. What a function takes is an estimate from above (frameOf);
//   - functions that stand for the instructions that move memory or tables in bulk,
//     which charge for the size and work piece by piece; see helper.go.
//
// It also keeps what ref.func makes, one global variable for each function that is named
// so: wazero never frees a reference.
//
// Nothing else changes: the same results, memory, tables, globals and traps. The added
// import has the number after those of the original's imported functions, so functions
// that the module defines are renumbered wherever they are named: calls, references,
// elements, exports, the start function and the name section. Tables cannot grow beyond
// a bound, which is an answer that the specification allows.
//
// The guest cannot reach what is added: every index is checked against what the
// original has, and names that the pass uses are refused. Whatever is not known, an
// instruction or a section, refuses the module: what is walked here and what the
// runtime compiles must not differ. What a module declares is bounded before anything
// is allocated for it, in limits.go.
//
// On amd64 a turn of a loop costs 0.3 to 0.7 ns more, a call of a function that counts
// its depth 1.8 ns, and a function that only computes next to nothing (BenchmarkCost).
package meter

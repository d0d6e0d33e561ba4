;; Calls proxy_grpc_send with the arguments that the test has put into memory, at 1032
;; and every 8 bytes from there, and leaves the status at 1024.
;; A call, with the id 5, and a stream, with the id 10, are under way.
(module
  (import "env" "proxy_grpc_send" (func $call (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call" (func $unary (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "proxy_abi_version_0_2_1"))

  ;; The host's results come to the second page and beyond.
  (global $heap (mut i32) (i32.const 65536))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap
      (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (br_if $fits
        (i32.ne
          (memory.grow
            (i32.shr_u
              (i32.add (i32.sub (global.get $heap) (i32.shl (memory.size) (i32.const 16))) (i32.const 65535))
              (i32.const 16)))
          (i32.const -1)))
      (global.set $heap (local.get $at))
      (return (i32.const 0)))
    (local.get $at))

  (data (i32.const 512) "u" "Svc" "Do")
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop
      (call $unary
        (i32.const 512) (i32.const 1)
        (i32.const 513) (i32.const 3)
        (i32.const 516) (i32.const 2)
        (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 640)))
    (drop
      (call $stream
        (i32.const 512) (i32.const 1)
        (i32.const 513) (i32.const 3)
        (i32.const 516) (i32.const 2)
        (i32.const 0) (i32.const 0)
        (i32.const 640)))
    (i32.const 1))

  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.store (i32.const 1024)
      (call $call
        (i32.load (i32.const 1032))
        (i32.load (i32.const 1040))
        (i32.load (i32.const 1048))
        (i32.load (i32.const 1056))))
    (i32.const 0)))

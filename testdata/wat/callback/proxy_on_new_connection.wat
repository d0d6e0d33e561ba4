;; proxy_on_new_connection counts its calls at 1024 and leaves the
;; arguments of the latest at 1032 and every 8 bytes from there. The answer is at 1096.
(module
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

  (func (export "proxy_on_new_connection") (param i32) (result i32)
    (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
    (i32.store (i32.const 1032) (local.get 0))
    (i32.load (i32.const 1096))))

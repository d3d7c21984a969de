;; A service in 60 lines, without a toolchain: what HANDLE stands for is filled in by the tests.
;; `$answer` answers 200 with the given text.
(module
  (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-body.write" (func $write (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $write-out (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.12" "[resource-drop]output-stream" (func $drop-stream (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "hello\n")
  (global $heap (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  ;; Begins an answer; leaves the handles of its body and of the body's stream at 16 and 20.
  (func $begin (param $out i32)
    (local $response i32)
    (local.set $response (call $response (call $fields)))
    (call $body (local.get $response) (i32.const 0))
    (i32.store (i32.const 16) (i32.load (i32.const 4)))
    (call $set (local.get $out) (i32.const 0) (local.get $response)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $write (i32.load (i32.const 16)) (i32.const 0))
    (i32.store (i32.const 20) (i32.load (i32.const 4))))
  (func $send (param $at i32) (param $length i32)
    (call $write-out (i32.load (i32.const 20)) (local.get $at) (local.get $length) (i32.const 0)))
  (func $end
    (call $drop-stream (i32.load (i32.const 20)))
    (call $finish (i32.load (i32.const 16)) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func $answer (param $out i32)
    (call $begin (local.get $out))
    (call $send (i32.const 1024) (i32.const 6))
    (call $end))

  (func $handle (param $out i32)
    (local $i i32)
    (;HANDLE;))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $handle (local.get $out)))
  (;START;))

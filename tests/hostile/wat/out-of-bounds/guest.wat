;; Answers with numbers that no honest compiler writes: an enumeration's case that is not there, and a list that begins within memory and ends far outside.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "heddle:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 16)
  (func (export "heddle:policy/fanout@0.1.0#plan") (param i64 i64 i32 i32 i32 i32 i32 i32) (result i32)
    i32.const 77)
  (func (export "heddle:policy/fanout@0.1.0#sort")
    (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 32) (i32.const 4096))
    (i32.store (i32.const 36) (i32.const 0x7fffffff))
    i32.const 32))

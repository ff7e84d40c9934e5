;; Grows a table by 1,000 elements until the host says no, then traps: with a limit of N it comes as far as N.
(module
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "heddle:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 16)
  (func $bomb
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)))))
  ;; Push, and as many members pushed as there are thousands in the table: 0 to 2 are codes.
  (func (export "heddle:policy/fanout@0.1.0#plan") (param i64 i64 i32 i32 i32 i32 i32 i32) (result i32)
    (call $bomb)
    (i32.div_u (table.size $table) (i32.const 1000)))
  (func (export "heddle:policy/fanout@0.1.0#sort")
    (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $bomb)
    unreachable))

use super::*;
use crate::host::fixtures;

#[test]
fn compiles_each_kind_of_guest() {
    let cases = [
        (fixtures::http("unreachable"), Guest::Http),
        (fixtures::cli("(i32.const 0)"), Guest::Command),
        (fixtures::command(""), Guest::Preview1),
    ];
    for (binary, guest) in cases {
        let (compiled, code) = compile(&binary).expect("compiles");
        assert_eq!(compiled.guest, guest);
        assert_eq!(compiled.code_length, code.len() as u64);
        assert_eq!(compiled.engine_key, engine::key().expect("a key"));
    }
}

#[test]
fn a_function_of_a_newer_version_is_named() {
    let binary = wat::parse_str(
        r#"(component
          (import "wasi:cli/environment@0.2.99" (instance (export "get-weather" (func (result string)))))
          (core module $m (func (export "run") (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $run (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    )
    .expect("valid");
    let Err(Refusal::MissingImports { imports }) = compile(&binary) else {
        panic!("it compiled")
    };
    assert!(imports[0].contains("get-weather"), "{imports:?}");
}

#[test]
fn an_unknown_function_of_preview_1_is_named() {
    let binary =
        wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_teleport" (func)) (func (export "_start")))"#)
            .expect("valid");
    let Err(Refusal::MissingImports { imports }) = compile(&binary) else {
        panic!("it compiled")
    };
    assert!(imports[0].contains("fd_teleport"), "{imports:?}");
}

#[test]
fn code_against_the_specification_is_refused() {
    // Leaves a value on the stack.
    let binary = fixtures::command("(i32.const 1)");
    assert!(matches!(compile(&binary), Err(Refusal::Invalid { .. })));
}

#[test]
fn input_is_read_to_its_bound_only() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(MAX_BINARY + 1).expect("sparse");
    assert!(matches!(read(file).expect("read"), Err(Refusal::TooLarge { .. })));
}

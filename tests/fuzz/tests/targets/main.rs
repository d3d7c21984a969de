//! Whatever eats bytes from outside, fed with mutations of good inputs: it may refuse, but not panic, hang, or break its
//! own laws.
//!
//! Each target runs for `WHERRY_FUZZ_SECONDS` (a few in CI; `make fuzz` gives each ten minutes). An input that breaks
//! something is kept in a file, whose path the failure names; put it into `corpus/<target>/` to have it tried first from
//! then on.

mod apiserver;
mod artifacts;
mod custom;
mod drive;
mod host;
mod messages;
mod mutate;
mod objects;
mod selectors;
mod streams;

use crate::drive::{Target, drive};

macro_rules! targets {
    ($($name:ident: $run:expr, $words:expr;)*) => {
        $(
            #[test]
            fn $name() {
                drive(&Target { name: stringify!($name), words: $words, run: $run });
            }
        )*

        /// A directory of inputs belongs to a target, or it is never read.
        #[test]
        fn every_corpus_has_a_target() {
            let known = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(drive::corpora()).expect("the corpora are there") {
                let name = entry.expect("an entry").file_name().into_string().expect("in UTF-8");
                assert!(known.contains(&name.as_str()), "corpus/{name} belongs to no target");
            }
        }
    };
}

targets! {
    decode_json: objects::json, objects::WORDS;
    decode_yaml: objects::yaml, objects::WORDS;
    custom_schemas: custom::schemas, custom::SCHEMA_WORDS;
    cel_expressions: custom::expressions, custom::CEL_WORDS;
    patch_json: objects::patch_json, objects::WORDS;
    patch_merge: objects::patch_merge, objects::WORDS;
    patch_strategic: objects::patch_strategic, objects::WORDS;
    apply: objects::apply, objects::WORDS;
    quantities: objects::quantities, &["Ki", "Mi", "m", "E", "e", "-", ".", "9223372036854775807", "n", "u"];
    label_selectors: selectors::labels, selectors::WORDS;
    field_selectors: selectors::fields, selectors::WORDS;
    request_bodies: apiserver::bodies, objects::WORDS;
    request_protobuf: apiserver::protobuf, &["k8s\0", "v1", "Pod", "\n", "\x12", "\x1a", "ConfigMap"];
    protobuf_decode: messages::decoded, messages::WORDS;
    protobuf_round_trip: messages::round_trip, messages::WORDS;
    request_patches: apiserver::patches, objects::WORDS;
    list_parameters: apiserver::lists, apiserver::WORDS;
    watch_parameters: apiserver::watches, apiserver::WORDS;
    wasm_binaries: artifacts::wasm, &["\0asm", "\x01\0\0\0", "\x0d\0\x01\0", "wasi:http/proxy", "_start"];
    compiled_code: artifacts::compiled, &["\0", "{", "}"];
    host_frames: host::frames, &["\0\0\0\0", "\u{1}\0\0\0"];
    host_requests: host::requests, objects::WORDS;
    host_answers: host::answers, objects::WORDS;
    spdy_frames: streams::spdy, &["\u{80}\u{3}\0\u{1}", "streamtype", "error", "\0\0\0\u{1}\u{1}\0\0\0"];
}
